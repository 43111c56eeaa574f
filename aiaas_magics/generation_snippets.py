"""Programs to copy that ask an endpoint to go on with a text; `snippets` has them for others.

They speak OpenAI's protocol, whose clients need the address and the key only. Those that can with
what comes with the language print the text as it comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from aiaas_magics.snippet_answers import go_posting, java_posting

_PROMPT = "Once upon a time"


def _python(address: str, name: str) -> str:
    return f'''import json
import os
import urllib.request

# The same with OpenAI's client:
#   OpenAI(base_url="{address}", api_key=os.environ["AIAAS_KEY"])
#   .completions.create(model="{name}", prompt="…", stream=True)
body = {{"model": "{name}", "prompt": "{_PROMPT}", "max_tokens": 50, "stream": True}}
request = urllib.request.Request(
    "{address}/completions",
    json.dumps(body).encode(),
    {{"Authorization": f"Bearer {{os.environ['AIAAS_KEY']}}", "Content-Type": "application/json"}},
)
with urllib.request.urlopen(request) as response:
    print("version", response.headers["x-aiaas-model-version"])
    for line in response:
        event = line.decode().strip().removeprefix("data: ")
        if event.startswith("{{"):
            print(json.loads(event)["choices"][0]["text"], end="", flush=True)
print()
'''


def _curl(address: str, name: str) -> str:
    return f"""curl --silent --show-error --include --no-buffer "{address}/completions" \\
  --header "Authorization: Bearer $AIAAS_KEY" --header "Content-Type: application/json" \\
  --data-binary @- <<'JSON'
{{"model": "{name}", "prompt": "{_PROMPT}", "max_tokens": 50, "stream": true}}
JSON
"""


def _javascript(address: str, name: str) -> str:
    return f"""const body = {{
  model: "{name}", prompt: "{_PROMPT}", max_tokens: 50, stream: true,
}};
(async () => {{
  const response = await fetch("{address}/completions", {{
    method: "POST",
    headers: {{
      Authorization: `Bearer ${{process.env.AIAAS_KEY}}`,
      "Content-Type": "application/json",
    }},
    body: JSON.stringify(body),
  }});
  if (!response.ok) throw new Error(await response.text());
  console.log("version", response.headers.get("x-aiaas-model-version"));
  let rest = "";
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {{
    const lines = (rest + part).split("\\n");
    rest = lines.pop();
    for (const line of lines)
      if (line.startsWith("data: {{"))
        process.stdout.write(JSON.parse(line.slice(6)).choices[0].text);
  }}
  console.log();
}})();
"""


def _java(address: str, name: str) -> str:
    return java_posting(f"{address}/completions", f" {json.dumps(_asked(name))}")


def _go(address: str, name: str) -> str:
    return go_posting(f"{address}/completions", f"`{_asked(name)}`")


def _asked(name: str) -> str:
    return json.dumps({"model": name, "prompt": _PROMPT, "max_tokens": 50})


PROGRAMS: dict[str, Callable[[str, str], str]] = {
    "python": _python,
    "curl": _curl,
    "javascript": _javascript,
    "java": _java,
    "go": _go,
}
"""Language → its program, from the address with its `/v1` and the endpoint's name."""
