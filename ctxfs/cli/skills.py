"""The command skills: instructions for a kind of work, in knowledge and memory."""

import click

from ctxfs.cli.options import json_option
from ctxfs.cli.output import print_json, print_line, warn, write_bytes
from ctxfs.daemon.session import session as opened_session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, CommandError


@click.command()
@click.argument("name", default="")
@click.option("--files", is_flag=True, help="List the files of a skill with their sha256 and size")
@click.option("--all", "with_retired", is_flag=True, help="Also merged and archived skills")
@json_option()
@click.pass_obj
def skills(store: str | None, name: str, files: bool, with_retired: bool, as_json: bool) -> None:
    """List skills, or print one

    A skill is a folder skills/NAME/ in a source or in memory with a SKILL.md, which begins with its name and
    description in YAML. Reading a skill runs nothing. Merged and archived skills are found by path and with --all.
    """
    with opened_session(store) as opened:
        all_skills = opened.call("skills", include_retired=with_retired or "/" in name)
        if not name:
            if as_json:
                print_json(all_skills)
                return
            for skill in all_skills:
                if skill["fault"]:
                    warn(f"{skill['path']} is no skill: {skill['fault']}")
                else:
                    print_line(f"{skill['name']:<24} {skill['description']}  ({skill['path']})")
            if not any(not skill["fault"] for skill in all_skills):
                raise click.exceptions.Exit(EXIT_NOTHING_FOUND)
            return
        matching = [skill for skill in all_skills if name in (skill["name"], skill["path"]) and not skill["fault"]]
        if not matching:
            raise CommandError(f"there is no skill '{name}'", "see: ctxfs skills", EXIT_NOTHING_FOUND)
        if len(matching) > 1:
            paths = ", ".join(skill["path"] for skill in matching)
            raise CommandError(f"several skills are called '{name}'", f"name one by its path: {paths}")
        if files or as_json:
            content = opened.call("skill", path=matching[0]["path"])
            if as_json:
                print_json(content)
            else:
                for file, digest, size in content["files"]:
                    print_line(f"{digest[:12]} {size:>9} {matching[0]['path']}/{file}")
            return
        write_bytes(opened.call("read", path=f"{matching[0]['path']}/SKILL.md"))
