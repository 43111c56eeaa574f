"""What the programs to copy have in common: how they post JSON, and how they end, with the version
and the answer or with what was said in its place."""

from __future__ import annotations

PYTHON = """with urllib.request.urlopen(request) as response:
    print("version", response.headers["x-aiaas-model-version"])
    for output in json.load(response)["outputs"]:
        print(output["name"], output["shape"], output["data"])
"""
JAVASCRIPT = """  if (!response.ok) throw new Error(await response.text());
  console.log("version", response.headers.get("x-aiaas-model-version"));
  for (const output of (await response.json()).outputs)
    console.log(output.name, output.shape, output.data);
})();
"""
JAVA = """        HttpResponse<String> response = HttpClient.newHttpClient()
            .send(request, HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() != 200) throw new Exception(response.body());
        System.out.println("version "
            + response.headers().firstValue("x-aiaas-model-version").orElse("?"));
        System.out.println(response.body());
    }
}
"""
GO = """\tresponse, err := http.DefaultClient.Do(request)
\tif err != nil {
\t\tlog.Fatal(err)
\t}
\tdefer response.Body.Close()
\tanswer, err := io.ReadAll(response.Body)
\tif err != nil || response.StatusCode != 200 {
\t\tlog.Fatal(string(answer), err)
\t}
\tfmt.Println("version", response.Header.Get("x-aiaas-model-version"))
\tfmt.Println(string(answer))
}
"""


def java_posting(address: str, body: str, *imports: str) -> str:
    """`body`: an expression of Java, with what is before it on its line."""
    more = "".join(f"import {name};\n" for name in imports)
    return f"""import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
{more}
public class Call {{
    public static void main(String[] args) throws Exception {{
        String body ={body};
        HttpRequest request = HttpRequest.newBuilder(URI.create("{address}"))
            .header("Authorization", "Bearer " + System.getenv("AIAAS_KEY"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
{JAVA}"""


def go_posting(address: str, body: str) -> str:
    """`body`: an expression of Go."""
    return f"""package main

import (
\t"fmt"
\t"io"
\t"log"
\t"net/http"
\t"os"
\t"strings"
)

func main() {{
\tbody := {body}
\trequest, err := http.NewRequest("POST", "{address}", strings.NewReader(body))
\tif err != nil {{
\t\tlog.Fatal(err)
\t}}
\trequest.Header.Set("Authorization", "Bearer "+os.Getenv("AIAAS_KEY"))
\trequest.Header.Set("Content-Type", "application/json")
{GO}"""
