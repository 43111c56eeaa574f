// The page of the dataset browser. All that comes from users is put in as text; nothing here reads
// markup. What is shown is what the kernel says; what is done is sent to it.

const GONE =
  "This panel is not connected: the kernel was restarted, or the notebook was opened again. " +
  "Run the cell again.";

/** An element with properties, attributes and children; a child that is a string is text. */
function make(tag, { on = {}, attributes = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  for (const [name, listener] of Object.entries(on)) {
    element.addEventListener(name, listener);
  }
  element.append(...children);
  return element;
}

function table(titles, rows, label) {
  return make(
    "div",
    { className: "aiaas-data-scroll", tabIndex: 0, attributes: { role: "region", "aria-label": label } },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...titles.map(title => make("th", { scope: "col" }, title)))),
      make(
        "tbody",
        {},
        ...rows.map(row => make("tr", {}, ...row.map(cell => make("td", {}, cell))))
      )
    )
  );
}

function shown(cell) {
  if (cell === null) {
    return make("td", { className: "aiaas-data-muted" }, "null");
  }
  if (typeof cell === "string") {
    return make("td", {}, cell);
  }
  if ("image" in cell) {
    return make("td", {}, make("img", { src: cell.image, alt: "image" }));
  }
  return make("td", { title: cell.all }, cell.text);
}

/** Arrow keys, Home and End move between the buttons of a list. */
function walk(event) {
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (at >= 0 && to !== undefined && buttons[to]) {
    event.preventDefault();
    buttons[to].focus();
  }
}

function render({ model, el }) {
  // Jupyter marks what has lost its kernel, and has nobody to tell then.
  const isGone = () => el.closest(".jupyter-widgets-disconnected") !== null;
  const say = message => {
    if (!isGone()) {
      model.send(message);
    }
  };
  let timer;

  const gone = make("div", {
    className: "aiaas-data-error aiaas-data-gone", textContent: GONE, hidden: true,
    attributes: { role: "alert" }
  });
  const error = make("div", { className: "aiaas-data-error", hidden: true, attributes: { role: "alert" } });
  const search = make("input", {
    type: "search", placeholder: "Search names, columns, tags …", attributes: { "aria-label": "Search datasets" },
    on: {
      input: () => {
        clearTimeout(timer);
        timer = setTimeout(() => say({ do: "search", words: search.value }), 300);
      }
    }
  });
  const status = make("div", {
    className: "aiaas-data-muted aiaas-data-status", attributes: { role: "status" }
  });
  const list = make("ul", { attributes: { "aria-label": "Datasets" }, on: { keydown: walk } });
  const more = make("button", { type: "button", hidden: true, on: { click: () => say({ do: "more" }) } }, "More");

  const heading = make("h3", {});
  const version = make("select", {
    attributes: { "aria-label": "Version" },
    on: {
      change: () =>
        say({ do: "choose", name: model.get("chosen").name, version: Number(version.value) })
    }
  });
  const facts = make("dl", {});
  const versions = make("details", {});
  const profile = make("details", {});
  const choice = make("div", { className: "aiaas-data-choice", attributes: { role: "group", "aria-label": "Columns" } });
  const where = make("input", {
    type: "text", placeholder: "price > 10 and city = 'Ghent'", spellcheck: false,
    attributes: { "aria-label": "Condition: rows that fulfil it (SQL)" },
    on: {
      keydown: event => {
        if (event.key === "Enter") {
          filter();
        }
      }
    }
  });
  const grid = make("div", {
    className: "aiaas-data-scroll", tabIndex: 0, attributes: { role: "region", "aria-label": "Rows" }
  });
  const back = make("button", { type: "button", on: { click: () => turn(-1) } }, "Previous");
  const next = make("button", { type: "button", on: { click: () => turn(1) } }, "Next");
  const line = make("code", {});
  const copy = make("button", { type: "button", on: { click: () => copied() } }, "Copy");
  const detail = make(
    "section",
    { className: "aiaas-data-detail", hidden: true, attributes: { "aria-label": "Dataset" } },
    make("div", { className: "aiaas-data-bar" }, heading, version),
    facts,
    versions,
    profile,
    make("details", {}, make("summary", {}, "Columns to show"), choice),
    // No form: a page that Jupyter may not trust with forms submits none.
    make(
      "div",
      { className: "aiaas-data-bar" },
      where,
      make("button", { type: "button", on: { click: () => filter() } }, "Filter")
    ),
    grid,
    make("div", { className: "aiaas-data-bar" }, back, next),
    make("div", { className: "aiaas-data-bar" }, make("span", { className: "aiaas-data-muted" }, "load"), line, copy)
  );
  const root = make(
    "div",
    {
      className: "aiaas-data",
      // JupyterLab's one-key commands are not meant for what is typed here.
      attributes: { role: "group", "aria-label": "Dataset browser", "data-lm-suppress-shortcuts": "true" }
    },
    gone,
    error,
    make(
      "div",
      { className: "aiaas-data-columns" },
      make("div", { className: "aiaas-data-list" }, search, status, list, more),
      detail
    )
  );

  const wanted = () => {
    const boxes = [...choice.querySelectorAll("input")];
    const chosen = boxes.filter(box => box.checked).map(box => box.value);
    return chosen.length === boxes.length ? [] : chosen;
  };
  const look = sort => say({ do: "look", columns: wanted(), where: where.value, sort });
  const filter = () => look(model.get("table").sort);
  const turn = by => {
    const now = model.get("table");
    say({ do: "page", offset: Math.max(0, now.offset + by * now.step) });
  };

  async function copied() {
    try {
      await navigator.clipboard.writeText(line.textContent);
      copy.textContent = "Copied";
    } catch {
      // Pages that are not served safely have no clipboard: it is selected, to be copied by hand.
      getSelection().selectAllChildren(line);
      copy.textContent = "Selected";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  }

  function showListing() {
    const { items = [], more: further = false, empty = "" } = model.get("listing");
    const focused = list.contains(document.activeElement) ? document.activeElement.value : null;
    list.replaceChildren(
      ...items.map(item =>
        make(
          "li",
          {},
          make(
            "button",
            { type: "button", value: item.name, on: { click: () => say({ do: "choose", name: item.name }) } },
            make("div", {}, item.title),
            make(
              "div",
              { className: "aiaas-data-muted aiaas-data-about" },
              `${item.rows} rows · ${item.size} · ${item.updated}`
            ),
            make("div", { className: "aiaas-data-muted aiaas-data-about" }, item.about)
          )
        )
      )
    );
    status.textContent = items.length ? `${items.length}${further ? "+" : ""} ${items.length === 1 ? "dataset" : "datasets"}` : empty;
    more.hidden = !further;
    mark();
    if (focused !== null) {
      [...list.querySelectorAll("button")].find(button => button.value === focused)?.focus();
    }
  }

  function mark() {
    const { name } = model.get("chosen");
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-current", String(button.value === name));
    }
  }

  function showChosen() {
    const chosen = model.get("chosen");
    mark();
    detail.hidden = !chosen.name;
    if (!chosen.name) {
      return;
    }
    const another = heading.textContent !== chosen.title;
    heading.textContent = chosen.title;
    version.replaceChildren(
      ...chosen.versions.rows.map(([number]) =>
        make("option", { value: number, selected: number === chosen.version }, `version ${number}`)
      )
    );
    facts.replaceChildren(
      ...chosen.facts.flatMap(([label, value]) => [make("dt", {}, label), make("dd", {}, value)])
    );
    versions.replaceChildren(
      make("summary", {}, `Versions (${chosen.versions.rows.length})`),
      table(chosen.versions.titles, chosen.versions.rows.map(row => row.slice(1)), "Versions")
    );
    profile.replaceChildren(
      make("summary", {}, "Profile"),
      chosen.profile
        ? make(
            "div",
            {},
            make("div", { className: "aiaas-data-muted" }, chosen.profile.caption),
            table(chosen.profile.titles, chosen.profile.rows, "Profile")
          )
        : make(
            "div",
            { className: "aiaas-data-bar" },
            make("span", {}, "Nobody asked for it yet."),
            make("button", { type: "button", on: { click: () => say({ do: "profile" }) } }, "Compute it")
          )
    );
    if (another) {
      where.value = "";
      choice.replaceChildren(
        ...chosen.columns.map(([name, title, type]) =>
          make(
            "label",
            {},
            make("input", {
              type: "checkbox", value: name, checked: true,
              on: { change: () => look(model.get("table").sort) }
            }),
            ` ${title} `,
            make("span", { className: "aiaas-data-muted" }, type)
          )
        )
      );
    }
  }

  function showTable() {
    const now = model.get("table");
    if (!now.columns) {
      return;
    }
    const [sorted, direction] = [now.sort.replace(/:desc$/, ""), now.sort.endsWith(":desc")];
    const focused = grid.contains(document.activeElement) ? document.activeElement.value : null;
    grid.replaceChildren(
      make(
        "table",
        {},
        make("caption", {}, now.caption),
        make(
          "thead",
          {},
          make(
            "tr",
            {},
            make("th", { scope: "col" }, "#"),
            ...now.columns.map(([name, title, type]) => {
              const by = name === sorted && now.sort !== "";
              const order = by ? (direction ? "descending" : "ascending") : "none";
              return make(
                "th",
                { scope: "col", title: type, attributes: { "aria-sort": order } },
                make(
                  "button",
                  {
                    type: "button", value: name,
                    on: { click: () => look(by && !direction ? `${name}:desc` : by ? "" : name) }
                  },
                  `${title}${by ? (direction ? " ▼" : " ▲") : ""}`
                )
              );
            })
          )
        ),
        make(
          "tbody",
          {},
          ...now.rows.map((row, at) =>
            make(
              "tr",
              {},
              make("th", { scope: "row", className: "aiaas-data-muted" }, String(now.offset + at + 1)),
              ...row.map(shown)
            )
          )
        )
      )
    );
    if (!now.rows.length) {
      grid.append(make("div", { className: "aiaas-data-muted" }, now.empty));
    }
    back.disabled = now.offset === 0;
    next.disabled = !now.more;
    line.textContent = now.line;
    if (focused !== null) {
      [...grid.querySelectorAll("button")].find(button => button.value === focused)?.focus();
    }
  }

  function showState() {
    error.textContent = model.get("error");
    error.hidden = !error.textContent;
    root.setAttribute("aria-busy", String(model.get("busy")));
  }

  const connected = () => {
    // After the page's own handlers, one of which makes the mark.
    setTimeout(() => { gone.hidden = !isGone(); }, 0);
  };
  const heard = {
    "change:listing": showListing,
    "change:chosen": showChosen,
    "change:table": showTable,
    "change:error": showState,
    "change:busy": showState,
    comm_live_update: connected
  };
  for (const [name, listener] of Object.entries(heard)) {
    model.on(name, listener);
  }
  el.append(root);
  showListing();
  showChosen();
  showTable();
  showState();
  connected();
  return () => {
    clearTimeout(timer);
    for (const [name, listener] of Object.entries(heard)) {
      model.off(name, listener);
    }
  };
}

export default { render };
