"""Serve the tree with the additions that the conformance suite requires: run as a program, `STORE HOST:PORT`.

Only for tests. Its tools request sampling, elicitation and logging, since none of the tree's own tools needs them.
"""

import base64
import hmac
import json
import secrets
import sys
import warnings
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import anyio
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.types import (
    INVALID_PARAMS,
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    PromptReference,
    Resource,
    ResourceTemplate,
    SamplingMessage,
    SetLevelRequestParams,
    TextResourceContents,
)

from ctxfs.mcp_server.http import parse_address, serve
from ctxfs.mcp_server.prompts import PromptReply
from ctxfs.mcp_server.server import Additions
from ctxfs.mcp_server.tool_registry import ADDS, READS, Answer, Call, Entry, failure, text
from ctxfs.store.layout import find_store

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = base64.b64encode(
    b"RIFF\x26\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x02\0\0\0\0\0"
).decode()
_KEY = secrets.token_bytes(32)
_STEP_SECONDS = 0.05
_MISSING_CAPABILITY = -32021
WORDS = {"type": "string"}


async def _simple(call: Call, arguments: Mapping[str, Any]) -> Answer:
    return "This is a simple text response for testing."


async def _image(call: Call, arguments: Mapping[str, Any]) -> Answer:
    return [ImageContent(type="image", data=PNG, mime_type="image/png")]


async def _audio(call: Call, arguments: Mapping[str, Any]) -> Answer:
    return CallToolResult(content=[AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


def _embedded(uri: str, kind: str, words: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=words))


async def _resource(call: Call, arguments: Mapping[str, Any]) -> Answer:
    return [_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


async def _mixed(call: Call, arguments: Mapping[str, Any]) -> Answer:
    return [
        text("Multiple content types test:"),
        ImageContent(type="image", data=PNG, mime_type="image/png"),
        _embedded("test://mixed-content-resource", "application/json", json.dumps({"test": "data", "value": 123})),
    ]


async def _logging(call: Call, arguments: Mapping[str, Any]) -> Answer:
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await call.context.session.send_log_message("info", words, related_request_id=call.context.request_id)
        await anyio.sleep(_STEP_SECONDS)
    return "Three messages were logged."


async def _error(call: Call, arguments: Mapping[str, Any]) -> Answer:
    return failure("This tool intentionally returns an error for testing")


async def _progress(call: Call, arguments: Mapping[str, Any]) -> Answer:
    for done in (0, 50, 100):
        await call.context.session.report_progress(done, 100, f"Completed step {done} of 100")
        await anyio.sleep(_STEP_SECONDS)
    return "Progress was reported."


async def _sampling(call: Call, arguments: Mapping[str, Any]) -> Answer:
    asked = SamplingMessage(role="user", content=text(arguments["prompt"]))
    answered = await call.context.session.create_message(
        [asked], max_tokens=100, related_request_id=call.context.request_id
    )
    return f"LLM response: {getattr(answered.content, 'text', '')}"


def _asks(schema: Mapping[str, Any], said: str = "") -> Any:
    async def ask(call: Call, arguments: Mapping[str, Any]) -> Answer:
        message = arguments.get("message", said or "Please say")
        result = await call.context.session.elicit_form(
            message, dict(schema), related_request_id=call.context.request_id
        )
        return f"Elicitation completed: action={result.action}, content={json.dumps(result.content)}"

    return ask


def _form(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


_USER = _form(
    username={"type": "string", "description": "User's response"},
    email={"type": "string", "description": "User's email address"},
)
_DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
_TITLED = [{"const": f"value{n}", "title": f"{name} Option"} for n, name in ((1, "First"), (2, "Second"), (3, "Third"))]
_ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": _TITLED},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
    },
}

# The inputs that a tool requires, in the revision in which servers request input by their results.


def _elicit(message: str, **properties: Mapping[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=_form(**properties)))


def _sample(words: str) -> CreateMessageRequest:
    asked = SamplingMessage(role="user", content=text(words))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[asked], max_tokens=100))


def _sealed(said: str) -> str:
    return f"{said}.{hmac.new(_KEY, said.encode(), sha256).hexdigest()}"


def _opened(state: str | None) -> str:
    payload, _, mark = (state or "").rpartition(".")
    if not hmac.compare_digest(mark, hmac.new(_KEY, payload.encode(), sha256).hexdigest()):
        raise MCPError(INVALID_PARAMS, "requestState: it is not what this server gave")
    return payload


def _content(call: Call, key: str) -> Mapping[str, Any] | None:
    response = (call.params.input_responses or {}).get(key)
    return response.content or {} if isinstance(response, ElicitResult) else None


async def _needs_name(call: Call, arguments: Mapping[str, Any]) -> Answer:
    given = _content(call, "user_name")
    if given is None:
        return InputRequiredResult(input_requests={"user_name": _elicit("What is your name?", name=WORDS)})
    return f"Hello, {given.get('name')}!"


async def _needs_sample(call: Call, arguments: Mapping[str, Any]) -> Answer:
    response = (call.params.input_responses or {}).get("capital_question")
    if not isinstance(response, CreateMessageResult):
        return InputRequiredResult(input_requests={"capital_question": _sample("What is the capital of France?")})
    return f"It said: {getattr(response.content, 'text', '')}"


async def _needs_roots(call: Call, arguments: Mapping[str, Any]) -> Answer:
    response = (call.params.input_responses or {}).get("client_roots")
    if not isinstance(response, ListRootsResult):
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
    return f"Roots: {', '.join(str(root.uri) for root in response.roots)}"


async def _needs_state(call: Call, arguments: Mapping[str, Any]) -> Answer:
    if _content(call, "confirm") is None:
        asked = _elicit("Please confirm", ok={"type": "boolean"})
        return InputRequiredResult(input_requests={"confirm": asked}, request_state=_sealed("confirm"))
    return f"state-ok: {_opened(call.params.request_state)}"


async def _needs_many(call: Call, arguments: Mapping[str, Any]) -> Answer:
    wanted = {
        "user_name": _elicit("What is your name?", name=WORDS),
        "greeting": _sample("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if not set(wanted) <= set(call.params.input_responses or {}):
        return InputRequiredResult(input_requests=wanted, request_state=_sealed("many"))
    _opened(call.params.request_state)
    return f"Hello, {(_content(call, 'user_name') or {}).get('name')}!"


async def _needs_rounds(call: Call, arguments: Mapping[str, Any]) -> Answer:
    state = call.params.request_state
    if state is None:
        asked = _elicit("Step 1: What is your name?", name=WORDS)
        return InputRequiredResult(input_requests={"step1": asked}, request_state=_sealed("round 1"))
    if _opened(state) == "round 1":
        asked = _elicit("Step 2: What is your favorite color?", color=WORDS)
        return InputRequiredResult(input_requests={"step2": asked}, request_state=_sealed("round 2"))
    return "All rounds are done."


async def _guards_state(call: Call, arguments: Mapping[str, Any]) -> Answer:
    if call.params.request_state is None:
        asked = _elicit("Please confirm", ok={"type": "boolean"})
        return InputRequiredResult(input_requests={"confirm": asked}, request_state=_sealed("guarded"))
    return _opened(call.params.request_state)


async def _what_is_offered(call: Call, arguments: Mapping[str, Any]) -> Answer:
    can = call.context.session.client_capabilities
    wanted: dict[str, Any] = {}
    if can is not None and can.sampling is not None:
        wanted["sample"] = _sample("Say something")
    if can is not None and can.elicitation is not None:
        wanted["form"] = _elicit("Say something", word=WORDS)
    return InputRequiredResult(input_requests=wanted) if wanted else "This client offers nothing."


async def _missing(call: Call, arguments: Mapping[str, Any]) -> Answer:
    can = call.context.session.client_capabilities
    if can is None or can.sampling is None:
        data = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(_MISSING_CAPABILITY, "the client has not declared sampling", data)
    return "It has."


async def _streaming(call: Call, arguments: Mapping[str, Any]) -> Answer:
    return InputRequiredResult(input_requests={"more": _elicit("What else?", word=WORDS)})


async def _log_once(call: Call, arguments: Mapping[str, Any]) -> Answer:
    await call.context.session.send_log_message("info", "one line", related_request_id=call.context.request_id)
    return "One line was logged, if it was wanted."


async def _plain(call: Call, arguments: Mapping[str, Any]) -> Answer:
    return json.dumps(dict(arguments))


_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
_HEADER = {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}}


def tools() -> list[Entry]:
    """Return the tools, by the names that the suite calls."""
    plain = {
        "test_simple_text": _simple,
        "test_image_content": _image,
        "test_audio_content": _audio,
        "test_embedded_resource": _resource,
        "test_multiple_content_types": _mixed,
        "test_tool_with_logging": _logging,
        "test_error_handling": _error,
        "test_tool_with_progress": _progress,
        "test_elicitation_sep1034_defaults": _asks(_DEFAULTS, "Please review"),
        "test_elicitation_sep1330_enums": _asks(_ENUMS, "Please select"),
        "test_input_required_result_elicitation": _needs_name,
        "test_input_required_result_sampling": _needs_sample,
        "test_input_required_result_list_roots": _needs_roots,
        "test_input_required_result_request_state": _needs_state,
        "test_input_required_result_multiple_inputs": _needs_many,
        "test_input_required_result_multi_round": _needs_rounds,
        "test_input_required_result_tampered_state": _guards_state,
        "test_input_required_result_capabilities": _what_is_offered,
        "test_missing_capability": _missing,
        "test_streaming_elicitation": _streaming,
        "test_logging_tool": _log_once,
    }
    return [
        *(Entry(name, "For the conformance suite.", READS, function) for name, function in plain.items()),
        Entry("test_sampling", "Asks a model.", READS, _sampling, {"prompt": WORDS}, ("prompt",)),
        Entry("test_elicitation", "Asks a person.", READS, _asks(_USER), {"message": WORDS}, ("message",)),
        Entry("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", ADDS, _plain, schema=_SCHEMA),
        Entry("test_headers", "Repeats its arguments.", READS, _plain, _HEADER),
    ]


def _user(*contents: Any) -> GetPromptResult:
    return GetPromptResult(messages=[PromptMessage(role="user", content=content) for content in contents])


def _given(params: GetPromptRequestParams, name: str) -> str:
    return (params.arguments or {})[name]


def prompts() -> list[PromptReply]:
    """Return the prompts, by the names that the suite calls."""

    async def simple(door: Any, params: GetPromptRequestParams) -> GetPromptResult:
        return _user(text("This is a simple prompt for testing."))

    async def with_arguments(door: Any, params: GetPromptRequestParams) -> GetPromptResult:
        return _user(text(f"Prompt with arguments: arg1='{_given(params, 'arg1')}', arg2='{_given(params, 'arg2')}'"))

    async def with_resource(door: Any, params: GetPromptRequestParams) -> GetPromptResult:
        words = "Embedded resource content for testing."
        return _user(
            _embedded(_given(params, "resourceUri"), "text/plain", words),
            text("Please process the embedded resource above."),
        )

    async def with_image(door: Any, params: GetPromptRequestParams) -> GetPromptResult:
        return _user(
            ImageContent(type="image", data=PNG, mime_type="image/png"), text("Please analyze the image above.")
        )

    async def with_input(door: Any, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
        response = (params.input_responses or {}).get("user_context")
        if not isinstance(response, ElicitResult):
            asked = _elicit("What context should the prompt use?", context=WORDS)
            return InputRequiredResult(input_requests={"user_context": asked})
        return _user(text(f"Use this context: {(response.content or {}).get('context')}"))

    def named(name: str, *arguments: str) -> Prompt:
        return Prompt(
            name=name,
            description="For the conformance suite.",
            arguments=[PromptArgument(name=argument, required=True) for argument in arguments],
        )

    return [
        PromptReply(named("test_simple_prompt"), simple),
        PromptReply(named("test_prompt_with_arguments", "arg1", "arg2"), with_arguments),
        PromptReply(named("test_prompt_with_embedded_resource", "resourceUri"), with_resource),
        PromptReply(named("test_prompt_with_image"), with_image),
        PromptReply(named("test_input_required_result_prompt"), with_input),
    ]


def read(uri: str) -> TextResourceContents | BlobResourceContents | None:
    """Return the resources that the suite reads."""
    if uri == "test://static-text":
        words = "This is the content of the static text resource."
        return TextResourceContents(uri=uri, mime_type="text/plain", text=words)
    if uri == "test://static-binary":
        return BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    if uri.startswith("test://template/") and uri.endswith("/data"):
        which = uri.split("/")[3]
        words = json.dumps({"id": which, "templateTest": True, "data": f"Data for ID: {which}"})
        return TextResourceContents(uri=uri, mime_type="application/json", text=words)
    if uri == "test://watched-resource":
        return TextResourceContents(uri=uri, mime_type="text/plain", text="watched")
    return None


def complete(params: CompleteRequestParams) -> CompleteResult | None:
    """Return completions for the arguments of the suite's prompts."""
    if isinstance(params.ref, PromptReference) and params.ref.name == "test_prompt_with_arguments":
        return CompleteResult(completion=Completion(values=["paris", "park", "party"], total=3, has_more=False))
    return None


async def _set_level(context: Any, params: SetLevelRequestParams) -> EmptyResult:
    return EmptyResult()


def everything() -> Additions:
    """Return all additions for the suite."""
    return Additions(
        tools=tools(),
        prompts=prompts(),
        resources=[
            Resource(uri="test://static-text", name="static-text", mime_type="text/plain"),
            Resource(uri="test://static-binary", name="static-binary", mime_type="image/png"),
            Resource(uri="test://watched-resource", name="watched-resource", mime_type="text/plain"),
        ],
        templates=[ResourceTemplate(uri_template="test://template/{id}/data", name="template")],
        read=read,
        complete=complete,
        handlers={"logging/setLevel": (SetLevelRequestParams, _set_level)},
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    store, address = sys.argv[1:]
    anyio.run(
        lambda: serve(find_store(store), parse_address(address), needs_token=False, additions=everything()),
        backend="trio",
    )
