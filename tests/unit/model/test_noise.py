"""Test the classification of noise: by name, by folder and by text, with texts of people that only look like it."""

from collections.abc import Collection

import pytest

from ctxfs.model.noise import (
    Noise,
    NoiseClassifier,
    classify_name,
    classify_text,
    final_names,
    is_editor_file,
)

TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n"


class Files:
    """A tree of files in memory. Implements `FolderProbe`."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def names(self, folder: tuple[str, ...]) -> Collection[str]:
        start = "".join(f"{name}/" for name in folder)
        return {path[len(start) :].split("/")[0] for path in self.files if path.startswith(start)}

    def head(self, path: tuple[str, ...]) -> bytes:
        return self.files.get("/".join(path), b"")


def classify(path: str, *others: str, min_depth: int = 1, **contents: bytes) -> Noise | None:
    files = dict.fromkeys((path, *others), b"") | {name.replace("__", "/"): data for name, data in contents.items()}
    return NoiseClassifier(Files(files), min_depth).classify(tuple(path.split("/")))


@pytest.mark.parametrize(
    "name",
    "uv.lock package-lock.json Cargo.lock poetry.lock yarn.lock go.sum go.work.sum pnpm-lock.yaml Gemfile.lock "
    "composer.lock Pipfile.lock flake.lock gradle.lockfile .terraform.lock.hcl pylock.toml pylock.dev.toml "
    "MODULE.bazel.lock Package.resolved npm-shrinkwrap.json packages.lock.json stack.yaml.lock conda-lock.yml "
    "CARGO.LOCK pdm.lock bun.lock deno.lock mix.lock pubspec.lock".split(),
)
def test_lock_file_is_noise(name: str) -> None:
    assert classify_name(name) is Noise.LOCK_FILE


@pytest.mark.parametrize(
    "name",
    "vendor.md lock.md yarn.lock.md lockfile.txt locks.py padlock.md node_modules.md generated.md svg.md minified.js "
    "vendor cache.md blocks.json unlock.toml 4913 x.tmp notes.orig ~ .vimrc .swp.md sw.p C# a#b #1 notes.bak "
    ".env.sample .gitignore readme.old".split(),
)
def test_name_of_a_persons_file_is_no_noise(name: str) -> None:
    assert classify_name(name) is None


@pytest.mark.parametrize(
    "name",
    ".x.md.swp .x.swo .x.swx .x.swa x~ x.md~ .x.un~ #x# .#x .~lock.x.odt# ~$report.docx .goutputstream-AB12CD "
    "x.md___jb_tmp___ .DS_Store .tmpAbC123 .nfs000000000123 .fuse_hidden0000001 .x.md.kate-swp x.crswap".split(),
)
def test_editors_file_is_noise(name: str) -> None:
    assert is_editor_file(name)
    assert classify_name(name) is Noise.EDITOR


def test_probe_of_vim_is_an_empty_file() -> None:
    assert is_editor_file("4913", 0)
    assert not is_editor_file("4913", 12)


@pytest.mark.parametrize(
    ("name", "final"),
    [
        ("x.md.tmp", "x.md"),
        (".x.md.tmp", "x.md"),
        ("x.md.tmp.1234.5678", "x.md"),
        ("x.md.tmp-1a2b3c", "x.md"),
        (".x.md.Ab12Cd", "x.md"),
    ],
)
def test_temporary_file_of_an_atomic_writer_names_the_final_file(name: str, final: str) -> None:
    assert final in final_names(name)


@pytest.mark.parametrize("name", ["x.temp.csv", "x.tmpl", ".env.sample", "x.tmp.md", "tmp", ".tmp", "x.template"])
def test_other_names_have_no_final_file(name: str) -> None:
    assert not final_names(name)


@pytest.mark.parametrize(
    ("path", "others", "noise"),
    [
        ("web/node_modules/left-pad/index.js", (), Noise.PACKAGES),
        ("env/lib/python3/site-packages/x.py", (), Noise.PACKAGES),
        ("src/__pycache__/x.pyc", (), Noise.CACHE),
        ("vendor/github.com/a/b/b.go", ("vendor/modules.txt",), Noise.VENDORED),
        ("vendor/lib/README.md", ("vendor/lib/main.c", "vendor/lib/main.h"), Noise.VENDORED),
        ("third_party/zlib/ChangeLog.md", ("third_party/zlib/inflate.c", "third_party/zlib/configure"), Noise.VENDORED),
        ("vendor/github.com/pkg/errors/errors.go", (), Noise.VENDORED),
        ("vendor/bundle/ruby/3.2.0/gems/rake.rb", (), Noise.VENDORED),
        ("vendor/assets/javascripts/jquery.js", (), Noise.VENDORED),
        ("vendor/acme.md", ("vendor/globex.md",), None),
        ("vendor/acme/offer.md", ("vendor/acme/offer.pdf", "vendor/acme/api.py"), None),
        ("third-party/contract.md", (), None),
        ("bin/tool.sh", (), None),
        ("lib/x.py", (), None),
    ],
)
def test_folder_of_packages_is_noise(path: str, others: tuple[str, ...], noise: Noise | None) -> None:
    assert classify(path, *others) is noise


def test_environment_consists_of_its_own_entries() -> None:
    """A file that a person puts beside them belongs to that person."""
    files = Files({"env/pyvenv.cfg": b"home = /usr/bin\n", "env/lib/x.py": b"", "env/notes.md": b""})
    classifier = NoiseClassifier(files)
    kinds = {path: classifier.classify(tuple(path.split("/"))) for path in files.files}
    assert kinds == {
        "env/pyvenv.cfg": Noise.ENVIRONMENT,
        "env/lib/x.py": Noise.ENVIRONMENT,
        "env/notes.md": None,
    }


def test_marker_without_its_content_decides_nothing() -> None:
    assert NoiseClassifier(Files({"a/CACHEDIR.TAG": b"hello", "a/x.md": b""})).classify(("a", "x.md")) is None
    assert NoiseClassifier(Files({"a/pyvenv.cfg": b"hello", "a/lib/x.md": b""})).classify(("a", "lib", "x.md")) is None
    tagged = NoiseClassifier(Files({"a/CACHEDIR.TAG": TAG, "a/b/x.md": b""}))
    assert tagged.classify(("a", "b", "x.md")) is Noise.CACHE


def test_shared_folder_is_not_decided_by_one_file() -> None:
    shared = NoiseClassifier(Files({"task/CACHEDIR.TAG": TAG, "task/x.md": b"", "task/c/CACHEDIR.TAG": TAG}), 2)
    assert shared.classify(("task", "x.md")) is None
    assert shared.classify(("task", "c", "y.md")) is Noise.CACHE


def test_markers_in_the_root_do_not_hide_the_whole_tree() -> None:
    root = NoiseClassifier(Files({"CACHEDIR.TAG": TAG, "pyvenv.cfg": b"home = /usr\n", "lib/x.py": b"", "x.md": b""}))
    assert root.classify(("x.md",)) is None
    assert root.classify(("lib", "x.py")) is None


def test_path_of_many_folders_is_classified() -> None:
    assert classify("/".join(["a"] * 3000)) is None


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("x.go", "// Code generated by protoc-gen-go. DO NOT EDIT.\n\npackage x\n"),
        ("x_pb2.py", "# -*- coding: utf-8 -*-\n# Generated by the protocol buffer compiler.  DO NOT EDIT!\nimport sys\n"),
        ("X.cs", "//---\n// <auto-generated>\n//     This code was generated by a tool.\n"),
        ("x.rs", "/* @generated by tool */\nfn main() {}\n"),
        ("x.js", "/**\n * @generated SignedSource<<abc>>\n */\n"),
        ("Makefile", "# Makefile.in generated by automake 1.16\n# This file was automatically generated. Do not edit.\n"),
        ("requirements.txt", "#\n# This file is autogenerated by pip-compile with Python 3.11\n#\nrequests==2\n"),
        ("x.yaml", "# This file is generated. DO NOT EDIT.\na: 1\n"),
        ("api.md", "<!-- This file is generated by docgen. DO NOT EDIT. -->\n# API\n"),
        ("x.xml", "<?xml version='1.0'?>\n<!--\n  This file is generated by tool.\n  DO NOT EDIT.\n-->\n<a/>\n"),
        ("x.c", "/*\n  Automatically generated by bison.\n*/\nint x;\n"),
        ("x.py", '"""\nThis is an auto-generated file, do not edit.\n"""\n'),
        ("x.h", "// AUTO-GENERATED FILE. DO NOT MODIFY.\n"),
        ("Manifest.toml", "# This file is machine-generated - editing it directly is not advised\n"),
        ("x.java", "/* Autogenerated by Thrift Compiler (0.9)\n *\n * DO NOT EDIT UNLESS YOU ARE SURE\n */\n"),
        ("x.sql", "-- This file was generated from the model\nCREATE TABLE t(a);\n"),
    ],
)  # fmt: skip
def test_generated_code_is_noise(name: str, head: str) -> None:
    assert classify_text(name, head) is Noise.GENERATED


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("x.md", "# Generated code\n\nDO NOT EDIT what is generated; the mark is @generated.\n"),
        ("chat.txt", "Ann: is this file automatically generated? DO NOT EDIT says it.\n"),
        ("x.py", "# Checks the generated files.\nimport os\n"),
        ("x.py", '"""Write the header \'DO NOT EDIT\'."""\n'),
        ("x.py", "# contact me@generated.example\n"),
        ("x.py", "import re\nHEADER = '// Code generated by x. DO NOT EDIT.'\n"),
        ("x.c", '/* short */\nint generated = 1;\nchar *s = "this file is generated";\n'),
        ("x.py", '"""One line."""\nHEAD = "This file is generated by x"\n'),
        ("x.go", "// Package x parses code generated by others.\npackage x\n"),
        ("x.py", "# Generated by hand from the paper.\n"),
        ("x.jsonl", '{"text": "// Code generated by x. DO NOT EDIT."}\n'),
    ],
)
def test_text_about_generated_code_is_no_noise(name: str, head: str) -> None:
    assert classify_text(name, head) is None


def test_minified_code_has_long_lines() -> None:
    line = "function a(b,c){return b+c};" * 200
    assert classify_text("x.js", line) is Noise.MINIFIED
    assert classify_name("x.min.js") is Noise.MINIFIED
    assert classify_text("x.js", "function add(left, right) {\n  return left + right;\n}\n" * 200) is None
    assert classify_text("chat.json", line) is None, "data may be one line"
    assert classify_text("essay.txt", line) is None
    assert classify_text("essay.md", line) is None


@pytest.mark.parametrize("character", ["~", "#", ".", "a", " ", "\n", "\\", "$", "*", "@generated "])
def test_hostile_name_and_text_take_linear_time(character: str) -> None:
    text = character * 20_000
    classify_name(text)
    final_names(text)
    classify_text("x.py", "# " + text)
    classify_text("x.md", "<!-- " + text)
