"""Files of the package, and the tests that should notice every change of them."""

GATE, WYOMING = "tests/serve/gate", "tests/serve/wyoming"
REALTIME, OPENAI = "tests/serve/realtime", "tests/serve/openai"
GRADIUM = "tests/serve/gradium"
# Files, and the tests that are to notice every change of what they do.
TARGETS: dict[str, list[str]] = {
    "serve/gate/security.py": [f"{GATE}/test_guard.py", f"{GATE}/test_security.py"],
    "serve/gate/guard.py": [
        *(f"{GATE}/test_guard.py", f"{GATE}/test_lists.py", f"{GATE}/test_flood.py"),
    ],
    "serve/gate/limits.py": [f"{GATE}/test_limits.py", f"{GATE}/test_addresses.py"],
    "serve/gate/addresses.py": [f"{GATE}/test_addresses.py"],
    "serve/gate/lobby.py": [f"{GATE}/test_limits.py"],
    "serve/gate/head.py": [f"{GATE}/test_head.py"],
    "serve/gate/frames.py": [f"{GATE}/test_frames.py"],
    "serve/gate/logs.py": [f"{GATE}/test_logs.py"],
    "serve/gate/gate.py": [
        *(f"{GATE}/test_room.py", f"{GATE}/test_addresses.py", f"{GATE}/test_gate.py"),
    ],
    "serve/endings.py": ["tests/serve/test_endings.py"],
    **{
        f"serve/protocols/wyoming/{name}.py": [
            f"{WYOMING}/test_requests.py",
            *(f"{WYOMING}/test_client.py", f"{WYOMING}/test_strangers.py"),
        ]
        for name in ("wire", "backlog", "visits", "client", "requests")
    },
    **{
        f"serve/protocols/gradium/{name}.py": [
            f"{GRADIUM}/test_requests.py",
            f"{GRADIUM}/test_messages.py",
        ]
        for name in ("messages", "requests", "asr", "tts")
    },
    **{
        f"serve/protocols/openai/{name}.py": [
            *(f"{OPENAI}/test_reading.py", f"{OPENAI}/test_forms.py"),
        ]
        for name in ("asking", "forms", "speech", "transcripts")
    },
    "serve/protocols/openai/transcriptions.py": [
        *(f"{OPENAI}/test_hearing.py", f"{OPENAI}/test_reading.py"),
    ],
    **{
        f"serve/protocols/openai/{name}.py": [f"{OPENAI}/test_writing.py"]
        for name in ("completions", "errors")
    },
    "serve/protocols/realtime/turns.py": [f"{REALTIME}/test_turns.py"],
    "serve/protocols/realtime/hearing.py": [f"{REALTIME}/test_hearing.py"],
    "serve/protocols/realtime/items.py": [
        *(f"{REALTIME}/test_items.py", f"{REALTIME}/test_hearing.py"),
    ],
    "serve/protocols/moshi_server/messages.py": [
        "tests/serve/moshi_server/test_messages.py"
    ],
    "serve/protocols/moshi/messages.py": ["tests/serve/test_protocol.py"],
    "serve/protocols/moshi/settings.py": ["tests/serve/test_settings.py"],
    "utils/json_text.py": ["tests/utils/test_json_text.py"],
    "utils/tensor_files.py": [
        *("tests/utils/test_tensor_files.py", "tests/checkpoint/test_formats.py"),
    ],
    "models/schema.py": [
        *("tests/models/test_schema.py", "tests/models/test_config_values.py"),
    ],
    "checkpoint/source.py": [
        *("tests/checkpoint/test_source.py", "tests/checkpoint/test_hostile.py"),
    ],
    "checkpoint/shards.py": ["tests/checkpoint/test_shards.py"],
    "utils/sampling.py": [
        *("tests/utils/test_sampling.py", "tests/utils/test_noise.py"),
    ],
    "modules/ring.py": ["tests/modules/test_kv_cache.py"],
    "modules/kv_cache.py": ["tests/modules/test_kv_cache.py"],
    "modules/quantized_kv.py": ["tests/modules/test_quantized_kv.py"],
    "models/streams.py": [
        *("tests/models/test_streams.py", "tests/models/test_prefill.py"),
    ],
    "engines/tts/machine.py": ["tests/engines/tts/test_machine.py"],
    "engines/queue.py": ["tests/engines/test_queue.py"],
    "live/jitter.py": ["tests/live/test_jitter.py"],
}
