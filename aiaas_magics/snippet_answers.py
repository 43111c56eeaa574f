"""How the programs to copy end, whatever they send: with the version and the answer, or with what
was said in its place."""

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
