"""Which operation a path is: the table of DESIGN §1's operations, the APIs' prefixes, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.endpoints.paths import normalise
from mitmgate.endpoints.recognition import endpoint_of
from mitmgate.errors import Refusal
from mitmgate.exchange import Endpoint
from mitmgate.rules.schema import OPERATIONS

# Method, suffix, operation, what its body must be.
ROWS = [
    ("POST", "/chat/completions", "chat", "json"),
    ("POST", "/completions", "completions", "json"),
    ("POST", "/responses", "responses", "json"),
    ("GET", "/responses/resp_1", "responses", "any"),
    ("DELETE", "/responses/resp_1", "responses", "any"),
    ("POST", "/responses/resp_1/cancel", "responses", "any"),
    ("GET", "/responses/resp_1/input_items", "responses", "any"),
    ("POST", "/messages", "messages", "json"),
    ("POST", "/messages/count_tokens", "count_tokens", "json"),
    ("POST", "/embeddings", "embeddings", "json"),
    ("POST", "/rerank", "rerank", "json"),
    ("POST", "/moderations", "moderation", "json"),
    ("POST", "/audio/transcriptions", "transcription", "multipart"),
    ("POST", "/audio/translations", "transcription", "multipart"),
    ("POST", "/audio/speech", "speech", "json"),
    ("GET", "/audio/voices", "voices", "any"),
    ("POST", "/audio/voices", "voices", "any"),
    ("POST", "/audio/pipelines/dictate", "audio_pipeline", "any"),
    ("POST", "/images/generations", "image", "json"),
    ("POST", "/images/edits", "image", "any"),
    ("POST", "/images/variations", "image", "any"),
    ("GET", "/files", "files", "any"),
    ("POST", "/files", "files", "any"),
    ("GET", "/files/file-1/content", "files", "any"),
    ("DELETE", "/files/file-1", "files", "any"),
    ("POST", "/uploads", "files", "any"),
    ("POST", "/uploads/u/parts", "files", "any"),
    ("POST", "/batches", "batches", "any"),
    ("GET", "/batches/b", "batches", "any"),
    ("GET", "/models", "models", "any"),
    ("GET", "/models/meta-llama/Llama-3", "models", "any"),
    ("GET", "/realtime", "realtime", "any"),
    ("POST", "/realtime/sessions", "realtime", "any"),
    # The OpenAI API has more paths than rules have words for: they pass as `other`.
    ("POST", "/fine_tuning/jobs", "other", "any"),
    ("POST", "/assistants", "other", "any"),
    ("POST", "/threads/t/messages", "other", "any"),
    ("GET", "/vector_stores", "other", "any"),
    ("GET", "/chat/completions", "other", "none"),
    ("GET", "/chat/completions/c", "other", "any"),
    ("POST", "/chat/completions/c", "other", "any"),
    ("DELETE", "/chat/completions/c", "other", "any"),
    ("GET", "/chat/completions/c/messages", "other", "any"),
    ("POST", "/chat", "other", "any"),
    ("POST", "/modelsx", "other", "any"),
    ("POST", "/embeddings/x", "other", "any"),
]
PREFIXES = {"/v1": 600.0, "/openai/v1": 600.0, "/api/v1": 60.0}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("method", "suffix", "operation", "content"), ROWS)
def test_every_path_has_its_operation(prefix: str, method: str, suffix: str, operation: str, content: str) -> None:
    endpoint = endpoint_of(prefix + suffix, method)
    assert endpoint is not None
    dialect = "anthropic" if operation in ("messages", "count_tokens") else "openai"
    assert (endpoint.operation, endpoint.dialect, endpoint.suffix) == (operation, dialect, suffix)
    assert (endpoint.content, endpoint.model, endpoint.default_total) == (content, None, PREFIXES[prefix])


def test_every_operation_of_the_rules_can_be_recognised() -> None:
    assert {operation for _, _, operation, _ in ROWS} == set(OPERATIONS)


@pytest.mark.parametrize(
    ("path", "operation", "suffix", "model"),
    [
        ("/openai/deployments/gpt-4o/chat/completions", "chat", "/chat/completions", "gpt-4o"),
        ("/openai/deployments/my model/embeddings", "embeddings", "/embeddings", "my model"),
        ("/openai/deployments/w/audio/transcriptions", "transcription", "/audio/transcriptions", "w"),
        ("/openai/deployments/d/images/generations", "image", "/images/generations", "d"),
        ("/openai/deployments/d/extensions/chat/completions", "other", "/extensions/chat/completions", "d"),
    ],
)
def test_azure_deployments_name_the_model(path: str, operation: str, suffix: str, model: str) -> None:
    endpoint = endpoint_of(path, "POST")
    assert endpoint is not None
    assert (endpoint.operation, endpoint.dialect, endpoint.suffix, endpoint.model) == (operation, "openai", suffix, model)
    assert endpoint.default_total == 600


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/chat/completions", "/chat/completions", "/x/v1/chat/completions", "/v1x/chat/completions",
             "/openai/deployments/x", "/openai", "/metrics", "/v1beta/models"],
)  # fmt: skip
def test_paths_of_no_api_are_none(path: str) -> None:
    assert endpoint_of(path, "POST") is None


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "post", "get"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/chat/completions", "GET, POST"), ("/openai/v1/chat/completions", "GET, POST"), ("/api/v1/embeddings", "POST"),
        ("/openai/v1/audio/speech", "POST"), ("/openai/deployments/m/chat/completions", "POST"),
    ],
)  # fmt: skip
def test_a_wrong_method_is_refused_with_the_right_ones(path: str, allowed: str, method: str) -> None:
    with pytest.raises(Refusal) as caught:
        endpoint_of(path, method)
    assert (caught.value.code, caught.value.status) == ("method_not_allowed", 405)
    assert caught.value.headers == {"allow": allowed}
    assert str(caught.value).endswith(f"use {allowed.replace(', ', ' or ')}.")


@pytest.mark.parametrize("suffix", sorted({suffix for _, suffix, _, content in ROWS if content in ("json", "multipart")}))
@pytest.mark.parametrize("prefix", [*PREFIXES, "/openai/deployments/m"])
def test_what_no_api_lists_is_refused(prefix: str, suffix: str) -> None:
    """Of the paths that take a POST only stored chat completions can be listed, and not a deployment's; nothing is said
    of `/responses`, which passes whatever the method."""
    lists = suffix == "/responses" or (suffix == "/chat/completions" and prefix in PREFIXES)
    if lists:
        assert endpoint_of(prefix + suffix, "GET") is not None
        return
    with pytest.raises(Refusal) as caught:
        endpoint_of(prefix + suffix, "GET")
    assert (caught.value.code, caught.value.headers) == ("method_not_allowed", {"allow": "POST"})


@pytest.mark.parametrize(
    "path",
    ["/V1/chat/completions", "/v1/Chat/completions", "/v1/chat/COMPLETIONS", "/API/v1/models", "/v1/Models/x",
    "/OpenAI/v1/models",
     "/OPENAI/DEPLOYMENTS/m/chat/completions", "/openai/Deployments/m/chat/completions",
     "/openai/deployments/m/Chat/Completions", "/v1/Files/file-1"],
)  # fmt: skip
def test_another_case_is_refused(path: str) -> None:
    with pytest.raises(Refusal) as caught:
        endpoint_of(path, "POST")
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize("path", ["/v1/files/FILE-1", "/v1/models/Meta-Llama/X", "/openai/deployments/GPT/chat/completions"])
def test_names_in_paths_keep_their_case(path: str) -> None:
    assert isinstance(endpoint_of(path, "POST"), Endpoint)


LETTERS = st.sampled_from([suffix for _, suffix, _, _ in ROWS]).flatmap(
    lambda suffix: st.tuples(*(st.sampled_from([c, c.upper()]) for c in suffix)).map("".join)
)


@given(LETTERS, st.sampled_from(sorted(PREFIXES)), st.sampled_from(["GET", "POST"]))
def test_no_spelling_walks_past_a_governed_operation(spelled: str, prefix: str, method: str) -> None:
    """A path that means a row of the table to a server that folds case is that row or a refusal, never `other`."""
    governed = {suffix.lower(): operation for _, suffix, operation, _ in ROWS}
    governed["/chat/completions"] = "chat" if method == "POST" else "other"
    try:
        endpoint = endpoint_of(normalise(prefix + spelled)[0], method)
    except Refusal:
        return
    assert endpoint is not None
    assert endpoint.operation == governed[spelled.lower()]


GOOGLE = ["/v1beta", "/v1", "/v1alpha", "/v1beta1", "/v1/projects/p/locations/eu/publishers/google",
          "/v1beta1/projects/p-1/locations/us-central1/publishers/google"]  # fmt: skip
METHODS = {
    "generateContent": ("chat", False), "streamGenerateContent": ("chat", True), "countTokens": ("count_tokens", False),
    "embedContent": ("embeddings", False), "batchEmbedContents": ("embeddings", False),
}  # fmt: skip


@pytest.mark.parametrize("prefix", GOOGLE)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "Gemini-2.5_PRO@001", "a b"])
def test_googles_paths_name_model_and_method(prefix: str, method: str, model: str) -> None:
    endpoint = endpoint_of(f"{prefix}/models/{model}:{method}", "POST")
    assert endpoint is not None
    operation, streams = METHODS[method]
    assert (endpoint.operation, endpoint.dialect, endpoint.model, endpoint.streams) == (operation, "gemini", model, streams)
    assert (endpoint.suffix, endpoint.content, endpoint.default_total) == (f"/models/{model}:{method}", "json", 600)


def test_a_tuned_model() -> None:
    endpoint = endpoint_of("/v1beta/tunedModels/mine-1:generateContent", "POST")
    assert endpoint is not None
    assert (endpoint.operation, endpoint.model, endpoint.suffix) == ("chat", "mine-1", "/tunedModels/mine-1:generateContent")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "post"])
@pytest.mark.parametrize("name", METHODS)
def test_googles_methods_are_called_with_post(name: str, method: str) -> None:
    with pytest.raises(Refusal) as caught:
        endpoint_of(f"/v1beta/models/m:{name}", method)
    assert (caught.value.code, caught.value.headers) == ("method_not_allowed", {"allow": "POST"})


@pytest.mark.parametrize(
    "path",
    ["/V1beta/models/m:generateContent", "/v1beta/Models/m:generateContent", "/v1beta/models/m:GenerateContent",
     "/v1beta/models/m:generatecontent", "/v1/models/m:GENERATECONTENT", "/v1beta/tunedmodels/m:generateContent",
     "/v1/Projects/p/locations/eu/publishers/google/models/m:generateContent", "/v1beta/MODELS/m:predict",
     "/v1/projects/p/locations/eu/publishers/Google/models/m:countTokens"],
)  # fmt: skip
def test_another_case_of_googles_is_refused(path: str) -> None:
    with pytest.raises(Refusal) as caught:
        endpoint_of(path, "POST")
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize("name", ["predict", "predictLongRunning", "rawPredict", "batchGenerateContent"])
@pytest.mark.parametrize("prefix", GOOGLE)
def test_googles_other_methods_pass_under_their_model(prefix: str, name: str) -> None:
    endpoint = endpoint_of(f"{prefix}/models/m:{name}", "POST")
    assert endpoint is not None
    assert (endpoint.operation, endpoint.dialect, endpoint.model, endpoint.content) == ("other", "gemini", "m", "any")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("name", ["llama3:latest", "ft:gpt-4o:acme", "qwen3:8b"])
def test_a_models_name_may_have_a_tag(method: str, name: str) -> None:
    """OpenAI's fine-tunes and Ollama's models: what reads or deletes one is no method of Google's."""
    endpoint = endpoint_of(f"/v1/models/{name}", method)
    assert endpoint is not None
    assert (endpoint.operation, endpoint.dialect) == ("models", "openai")
    assert (endpoint.suffix, endpoint.model) == (f"/models/{name}", None)


GOOGLE_LETTERS = st.tuples(st.sampled_from(GOOGLE), st.sampled_from(sorted(METHODS))).flatmap(
    lambda both: st.tuples(
        *(st.sampled_from([c, c.swapcase()]) for c in f"{both[0]}/models/"), st.just("m:"),
        *(st.sampled_from([c, c.swapcase()]) for c in both[1]),
    ).map("".join)
)  # fmt: skip


@given(GOOGLE_LETTERS)
def test_no_spelling_walks_past_googles_operations(spelled: str) -> None:
    method = spelled.rpartition(":")[2]
    try:
        endpoint = endpoint_of(normalise(spelled)[0], "POST")
    except Refusal:
        return
    assert endpoint is not None
    assert (endpoint.operation, endpoint.model) == (METHODS[method][0], "m")
