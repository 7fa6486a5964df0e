"""Spark's REST submission protocol, /v1/submissions/{create,kill,killall,status,clear,readyz}, as an unmodified spark-submit speaks it.

Source: org.apache.spark.deploy.rest.{RestSubmissionServer, StandaloneRestServer, SubmitRestProtocolMessage} of 4.3.0, and answers
recorded from it (tests/unit/sparkd/fixtures/rest). On purpose it differs where Spark answers with a page of HTML or a stack trace: here
every answer is a message of the protocol, and a validation that fails says which field. A standby says that it did not clear anything.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ..config_values import INT_MAX, Whole, boolean, memory_mb
from ..core.effects import Answer
from ..core.states import MasterStatus
from ..core.values import DriverDescription, Json
from . import views
from .answers import BadBody, parse_json, read_body
from .faces import MasterFace, NotAlive, NotDurable

#: Whose protocol this is: what serverSparkVersion says.
SPARK_VERSION = "4.3.0"
VERSION = "v1"
UNKNOWN_VERSION = 468

_EXCEPTIONS = "org.apache.spark.deploy.rest"
_MISSING = f"{_EXCEPTIONS}.SubmitRestMissingFieldException"
_INVALID = f"{_EXCEPTIONS}.SubmitRestProtocolException"
_FIELDS = ("action", "appArgs", "appResource", "clientSparkVersion", "environmentVariables", "mainClass", "message", "sparkProperties")
#: Messages of the protocol that are no submission.
_OTHER_MESSAGES = frozenset(
    (
        "ClearResponse",
        "CreateSubmissionResponse",
        "ErrorResponse",
        "KillAllSubmissionResponse",
        "KillSubmissionResponse",
        "ReadyzResponse",
        "SubmissionStatusResponse",
    )
)
#: DriverEnvironment.HOST_SPECIFIC_ENV_VARS: what is true on the submitter's host only.
_HOST_SPECIFIC = frozenset(("SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME"))
_SPARK_SUBMIT = "org.apache.spark.deploy.SparkSubmit"
_DRIVER_RESOURCE = re.compile(r"spark\.driver\.resource\.[^.]+\.")
_MEMORY_DEFAULT_MB = 1024  # ClientArguments.DEFAULT_MEMORY


class BadRequest(Exception):
    """A request that is malformed: 400. The text is the whole message."""


class Refused(Exception):
    """A well-formed submission that this cluster does not take."""


def _malformed(exception: str, message: str) -> BadRequest:
    return BadRequest(f"Malformed request: {exception}: {message}")


def _invalid(why: str, exception: str = _INVALID) -> BadRequest:
    """Return what a failed validation is answered with: Spark's sentence, and the reason, which Spark keeps to itself."""
    return _malformed(_INVALID, f"Validation of message CreateSubmissionRequest failed!\nCaused by: {exception}: {why}")


class Submission:
    """A CreateSubmissionRequest, validated."""

    def __init__(self, body: Json) -> None:
        action = body.get("action") if isinstance(body, dict) else None
        if not isinstance(action, str):
            raise _malformed(_MISSING, "Action field not found in JSON:")
        if action in _OTHER_MESSAGES:
            raise BadRequest(f"Received message of unexpected type {action}.")
        if action != "CreateSubmissionRequest":
            raise _malformed(_INVALID, "The action is none of this protocol: CreateSubmissionRequest is expected.")
        # Spark compares with what it would send itself, in which null is left out, but for the map that is never null there.
        self.unknown = [name for name, value in body.items() if name not in _FIELDS or (value is None and name != "environmentVariables")]
        self.resource = _optional(body, "appResource")
        self.main_class = _optional(body, "mainClass")
        self.arguments = _list(body, "appArgs")
        self.properties = _map(body, "sparkProperties")
        self.environment = _map(body, "environmentVariables") or {}
        if _optional(body, "clientSparkVersion") is None:
            raise _invalid("Field 'clientSparkVersion' is missing in message CreateSubmissionRequest.", _MISSING)
        self._validate()

    def _validate(self) -> None:
        """CreateSubmissionRequest.doValidate."""
        if self.properties is None:
            raise _invalid("No Spark properties set!")
        if self.resource is None:
            raise _invalid("Field 'appResource' is missing in message CreateSubmissionRequest.", _MISSING)
        for key, kind, parse in (
            ("spark.driver.supervise", "boolean", boolean),
            ("spark.driver.cores", "numeric", float),
            ("spark.cores.max", "numeric", float),
            ("spark.driver.memory", "memory", memory_mb),
            ("spark.executor.memory", "memory", memory_mb),
        ):
            value = self.properties.get(key)
            if value is None:
                continue
            try:
                parse(value)
            except ValueError as error:
                more = f" ({error})" if kind != "numeric" else ""
                raise _invalid(f"Property '{key}' expected {kind} value: actual was '{value}'.{more}") from None


def _optional(body: Mapping[str, Json], name: str) -> str | None:
    value = body.get(name)
    return None if value is None else _scalar(value, name)


def _scalar(value: Json, name: str) -> str:
    """Return a string; numbers and booleans become one, as Jackson does it."""
    if type(value) is str and "\0" not in value:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        raise _malformed(_INVALID, f"Field '{name}' has a NUL byte, which no process can be given.")
    raise _malformed(_INVALID, f"Field '{name}' is not a string.")


def _list(body: Mapping[str, Json], name: str) -> tuple[str, ...]:
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _malformed(_INVALID, f"Field '{name}' is not a list of strings.")
    return tuple(_scalar(item, name) for item in value)


def _map(body: Mapping[str, Json], name: str) -> dict[str, str] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _malformed(_INVALID, f"Field '{name}' is not a map of strings.")
    return {_scalar(key, name): _scalar(item, name) for key, item in value.items()}


def describe(submission: Submission, face: MasterFace, environ: Mapping[str, str]) -> DriverDescription:
    """Return the driver that the submission asks for. environ: the master's, for {{NAME}}. Raises BadRequest, Refused.

    Source: StandaloneSubmitRequestServlet.buildDriverDescription.
    """
    resource, main_class = submission.resource or "", submission.main_class
    patterns = face.settings.rest.allowed_resources
    if patterns and not any(re.fullmatch(pattern, resource) for pattern in patterns):
        raise _malformed(_MISSING, "Valid application jar path is required")
    if main_class is None:
        raise _malformed(_MISSING, "Main class is missing.")
    given = {key: _substituted(value, environ) for key, value in (submission.properties or {}).items()}
    if any(_DRIVER_RESOURCE.match(key) for key in given):
        raise Refused("spark.driver.resource.*: custom resources are not offered by this cluster's workers")
    arguments = submission.arguments
    if main_class == _SPARK_SUBMIT and "spark.app.name" in given:
        arguments = ("-c", f"spark.app.name={given['spark.app.name']}", *arguments)
    # A client names the masters as it reached them, by their REST ports; drivers want the other one.
    master = given.get("spark.master")
    url = face.address().url if master is None else master.replace(f":{face.settings.rest.port}", f":{face.settings.port}")
    try:
        return DriverDescription(
            kind="jvm",
            name=given.get("spark.app.name", ""),
            resource=resource,
            main_class=main_class,
            arguments=arguments,
            environment={
                key: _substituted(value, environ) for key, value in submission.environment.items() if key not in _HOST_SPECIFIC and key
            },
            properties={**given, "spark.master": url},
            java_options=(
                *split_command(given.get("spark.driver.defaultJavaOptions", "")),
                *split_command(given.get("spark.driver.extraJavaOptions", "")),
            ),
            class_path=_paths(given.get("spark.driver.extraClassPath", "")),
            library_path=_paths(given.get("spark.driver.extraLibraryPath", "")),
            cores=_property(given, "spark.driver.cores", Whole(1, INT_MAX), 1),
            memory_mb=_property(given, "spark.driver.memory", memory_mb, _MEMORY_DEFAULT_MB),
            supervise=_property(given, "spark.driver.supervise", boolean, False),
        )
    except ValueError as error:
        raise _invalid(str(error)) from None


def _property(given: Mapping[str, str], key: str, parse: Any, default: Any) -> Any:
    """Return the parsed property. Raises ValueError naming it."""
    if key not in given:
        return default
    try:
        return parse(given[key])
    except ValueError as error:
        raise ValueError(f"Property '{key}' must be {error}: actual was '{given[key]}'.") from None


def _substituted(value: str, environ: Mapping[str, str]) -> str:
    """Return the master's environment variable for a value that is {{NAME}} as a whole, if there is one."""
    if value.startswith("{{") and value.endswith("}}") and len(value) > 4:
        return environ.get(value[2:-2], value)
    return value


def _paths(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(":") if part)


def split_command(text: str) -> list[str]:
    """Split as Utils.splitCommandString: a backslash escapes in double quotes only; an open quote ends with the text."""
    found: list[str] = []
    word: list[str] | None = None
    quote = ""
    letters = iter(text)
    for letter in letters:
        if quote:
            if letter == quote:
                quote = ""
            elif word is not None:
                word.append(next(letters, "") if letter == "\\" and quote == '"' else letter)
        elif letter in "'\"":
            quote, word = letter, [] if word is None else word
        elif letter in " \t\r\n":
            if word is not None:
                found.append("".join(word))
            word = None
        else:
            word = [letter] if word is None else [*word, letter]
    if word is not None:
        found.append("".join(word))
    return found


def message(action: str, status: int = 200, **fields: Json) -> web.Response:
    """Return a message of the protocol, written as Spark writes it; fields that are None are left out."""
    body = {"action": action, "serverSparkVersion": SPARK_VERSION, **fields}
    lines = [f'  "{name}" : {_value(value)}' for name, value in sorted(body.items()) if value is not None]
    return web.Response(
        body=("{\n" + ",\n".join(lines) + "\n}").encode(),
        status=status,
        reason="Unknown protocol version" if status == UNKNOWN_VERSION else None,
        headers={"Content-Type": "application/json;charset=utf-8"},
    )


_AS_JACKSON = json.JSONEncoder(ensure_ascii=False).encode


def _value(value: Json) -> str:
    if isinstance(value, list):
        return f"[ {', '.join(json.dumps(item) for item in value)} ]"
    return _AS_JACKSON(value)


def error(text: str, status: int = 400, **fields: Json) -> web.Response:
    """Return an ErrorResponse."""
    return message("ErrorResponse", status, message=text, **fields)


def _uncertain(refusal: NotAlive) -> str:
    leader = f", {refusal.leader.url}," if refusal.leader is not None else ""
    return f"This master lost the leadership before the store confirmed the submission: the next leader{leader} may have it, or not."


class Submissions:
    """The verbs. Each returns its answer.

    What the face raises is answered as Spark's standby would; what Spark has no words for is an ErrorResponse, because spark-submit shows
    those to its user, and keeps success false to itself.
    """

    def __init__(self, face: MasterFace, environ: Mapping[str, str] | None = None) -> None:
        self.face = face
        self._environ = os.environ if environ is None else environ

    async def answer(self, request: web.Request) -> web.Response:
        """Take any request below /."""
        parts = [part for part in request.path.split("/") if part]
        hint = f" Please submit requests through http://[host]:[port]/{VERSION}/submissions/..."
        if not parts:
            return error("Missing protocol version." + hint)
        if parts[0] != VERSION:
            return error(f"Unknown protocol version '{parts[0]}'." + hint, UNKNOWN_VERSION, highestProtocolVersion=VERSION)
        if parts[1:2] != ["submissions"]:
            if len(parts) == 1:
                return error("Missing the /submissions prefix." + hint)
            # Spark's words, which are not quite true.
            return error(f"Unknown protocol version '{VERSION}'." + hint, UNKNOWN_VERSION, highestProtocolVersion=VERSION)
        verb = _VERBS.get(parts[2]) if len(parts) > 2 else None
        if verb is None:
            verbs = "/create, /kill, /killall, /clear, /status, or /readyz"
            return error(f"Missing an action: please specify one of {verbs}." + hint)
        method, handler = verb
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            reply = error(f"HTTP method {request.method} is not supported by this URL", 405)
            reply.headers["Allow"] = "GET, HEAD" if method == "GET" else method
            return reply
        return await handler(self, request, parts[3] if len(parts) > 3 else "")

    async def create(self, request: web.Request, _: str) -> web.Response:
        """Submit. A request is judged before it is refused by a standby, as Spark does it."""
        action = "CreateSubmissionResponse"
        unknown: list[str] = []
        try:
            body = await read_body(request, self.face.settings.rest.max_body_bytes)
            submission = Submission(parse_json(body))
            unknown = submission.unknown
            answer = await self.face.submit(describe(submission, self.face, self._environ))
        except BadBody as refusal:
            if refusal.status == 400:
                return error(f"Malformed request: {refusal}")
            return error(str(refusal), refusal.status)
        except BadRequest as refusal:
            return error(str(refusal))
        except Refused as refusal:
            return error(str(refusal))
        except NotDurable as refusal:
            return error(str(refusal), 503)
        except NotAlive as refusal:
            if refusal.uncertain:
                # Spark's clients submit to the next master when they read that this one is not alive, and it would run twice.
                return error(f"{_uncertain(refusal)} Look for it there before you submit it again.", 500)
            answer = Answer(0, False, f"{refusal}. Can only accept driver submissions in ALIVE state.")
        return message(action, message=answer.message, success=answer.ok, submissionId=answer.id or None, unknownFields=unknown or None)

    async def kill(self, _: web.Request, driver_id: str) -> web.Response:
        """End one."""
        action = "KillSubmissionResponse"
        if not driver_id:
            return error("Submission ID is missing in kill request.")
        try:
            answer = await self.face.kill_driver(driver_id)
        except NotAlive as refusal:
            return message(action, message=f"{refusal}. Can only kill drivers in ALIVE state.", submissionId=driver_id, success=False)
        except NotDurable as refusal:
            return error(str(refusal), 503)
        return message(action, message=answer.message, submissionId=driver_id, success=answer.ok)

    async def kill_all(self, _: web.Request, __: str) -> web.Response:
        """End all."""
        action = "KillAllSubmissionResponse"
        try:
            answer = await self.face.kill_all()
        except NotAlive as refusal:
            return message(action, message=f"{refusal}. Can only kill drivers in ALIVE state.", success=False)
        except NotDurable as refusal:
            return error(str(refusal), 503)
        return message(action, message=answer.message, success=answer.ok)

    async def clear(self, _: web.Request, __: str) -> web.Response:
        """Forget what is completed."""
        try:
            answer = await self.face.clear()
        except NotAlive as refusal:
            return message("ClearResponse", message=f"{refusal}. Can only clear in ALIVE state.", success=False)
        except NotDurable as refusal:
            return error(str(refusal), 503)
        return message("ClearResponse", message="" if answer.ok else answer.message, success=answer.ok)

    async def status(self, _: web.Request, driver_id: str) -> web.Response:
        """Tell of one."""
        action = "SubmissionStatusResponse"
        if not driver_id:
            return error("Submission ID is missing in status request.")
        cluster = self.face.cluster()
        found = views.driver_status(cluster, driver_id) if cluster is not None else None
        now = self.face.status()
        if now is not MasterStatus.ALIVE:
            why = f"{NotAlive(now, None)}. Can only request driver status in ALIVE state."
            return message(
                action, message=f"Exception from the cluster:\njava.lang.Exception: {why}", submissionId=driver_id, success=False
            )
        if found is None:
            return message(action, submissionId=driver_id, success=False)
        return message(
            action,
            submissionId=driver_id,
            success=True,
            driverState=found.state,
            workerId=found.worker_id or None,
            workerHostPort=found.worker_address or None,
            message=f"Exception from the cluster:\n{found.message}" if found.message else None,
        )

    async def readyz(self, _: web.Request, __: str) -> web.Response:
        """Say whether submissions are taken; Spark says yes while it is RECOVERING, and then refuses them."""
        if self.face.status() is not MasterStatus.ALIVE:
            return error("Master is not ready.", 503)
        return message("ReadyzResponse", message="", success=True)


_VERBS = {
    "create": ("POST", Submissions.create),
    "kill": ("POST", Submissions.kill),
    "killall": ("POST", Submissions.kill_all),
    "clear": ("POST", Submissions.clear),
    "status": ("GET", Submissions.status),
    "readyz": ("GET", Submissions.readyz),
}


def add_submissions(app: web.Application, face: MasterFace) -> None:
    """Take everything that no other route of the app takes: add it last."""
    app.router.add_route("*", "/{path:.*}", Submissions(face).answer)
