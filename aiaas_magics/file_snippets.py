"""Programs to copy that send a file to an endpoint that takes one; `snippets` has them for others.

They send the Open Inference Protocol's binary tensors, as JSON has no bytes: the JSON without data,
and behind it each string with its length before it, in four bytes, little-endian. Its length is in
the header `Inference-Header-Content-Length`. What comes back is JSON.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

from aiaas_magics import snippet_answers as answers

FILE = "image.jpg"


def _head(name: str) -> tuple[str, str]:
    """The JSON before and after the number of bytes that come after it, all in ASCII."""
    tensor = f'{{"name": {json.dumps(name)}, "shape": [1, 1], "datatype": "BYTES", '
    return f'{{"inputs": [{tensor}"parameters": {{"binary_data_size": ', "}}]}"


def _python(address: str, name: str) -> str:
    return f'''import json
import os
import struct
import urllib.request

with open("{FILE}", "rb") as file:
    image = file.read()
tensor = struct.pack("<I", len(image)) + image
head = {{
    "inputs": [
        {{"name": {json.dumps(name)}, "shape": [1, 1], "datatype": "BYTES",
         "parameters": {{"binary_data_size": len(tensor)}}}},
    ]
}}
head = json.dumps(head).encode()
request = urllib.request.Request(
    "{address}",
    head + tensor,
    {{
        "Authorization": f"Bearer {{os.environ['AIAAS_KEY']}}",
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }},
)
{answers.PYTHON}'''


def _curl(address: str, name: str) -> str:
    before, after = map(shlex.quote, _head(name))
    return f"""size=$(wc -c < {FILE})
head={before}$((size + 4)){after}
{{
  printf %s "$head"
  for shift in 0 8 16 24; do printf "\\\\$(printf %03o $((size >> shift & 255)))"; done
  cat {FILE}
}} | curl --silent --show-error --include "{address}" \\
  --header "Authorization: Bearer $AIAAS_KEY" \\
  --header "Content-Type: application/octet-stream" \\
  --header "Inference-Header-Content-Length: ${{#head}}" \\
  --data-binary @-
"""


def _javascript(address: str, name: str) -> str:
    return f"""const image = require("fs").readFileSync("{FILE}");
const size = Buffer.alloc(4);
size.writeUInt32LE(image.length);
const head = Buffer.from(JSON.stringify({{
  inputs: [
    {{name: {json.dumps(name)}, shape: [1, 1], datatype: "BYTES",
     parameters: {{binary_data_size: image.length + 4}}}},
  ],
}}));
(async () => {{
  const response = await fetch("{address}", {{
    method: "POST",
    headers: {{
      Authorization: `Bearer ${{process.env.AIAAS_KEY}}`,
      "Content-Type": "application/octet-stream",
      "Inference-Header-Content-Length": String(head.length),
    }},
    body: Buffer.concat([head, size, image]),
  }});
{answers.JAVASCRIPT}"""


def _java(address: str, name: str) -> str:
    before, after = map(json.dumps, _head(name))
    return f"""import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;

public class Call {{
    public static void main(String[] args) throws Exception {{
        byte[] image = Files.readAllBytes(Path.of("{FILE}"));
        byte[] head = ({before}
            + (image.length + 4) + {after}).getBytes();
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        body.write(head);
        body.write(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN)
            .putInt(image.length).array());
        body.write(image);
        HttpRequest request = HttpRequest.newBuilder(URI.create("{address}"))
            .header("Authorization", "Bearer " + System.getenv("AIAAS_KEY"))
            .header("Content-Type", "application/octet-stream")
            .header("Inference-Header-Content-Length", String.valueOf(head.length))
            .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray()))
            .build();
{answers.JAVA}"""


def _go(address: str, name: str) -> str:
    before, after = map(json.dumps, _head(name))
    return f"""package main

import (
\t"bytes"
\t"encoding/binary"
\t"fmt"
\t"io"
\t"log"
\t"net/http"
\t"os"
\t"strconv"
)

func main() {{
\timage, err := os.ReadFile("{FILE}")
\tif err != nil {{
\t\tlog.Fatal(err)
\t}}
\thead := {before} +
\t\tstrconv.Itoa(len(image)+4) + {after}
\tbody := bytes.NewBufferString(head)
\tbinary.Write(body, binary.LittleEndian, uint32(len(image)))
\tbody.Write(image)
\trequest, err := http.NewRequest("POST", "{address}", body)
\tif err != nil {{
\t\tlog.Fatal(err)
\t}}
\trequest.Header.Set("Authorization", "Bearer "+os.Getenv("AIAAS_KEY"))
\trequest.Header.Set("Content-Type", "application/octet-stream")
\trequest.Header.Set("Inference-Header-Content-Length", strconv.Itoa(len(head)))
{answers.GO}"""


PROGRAMS: dict[str, Callable[[str, str], str]] = {
    "python": _python,
    "curl": _curl,
    "javascript": _javascript,
    "java": _java,
    "go": _go,
}
"""Language → its program, from the address and the input's name."""
