// Cells that begin with %%bpf hold C, and are coloured as C.
//
// JupyterLab colours a cell by its MIME type, and sets that of all cells to Python's whenever a
// kernel starts: so it is set again each time. Loaded as a prebuilt extension, which is an object
// with init() and get(); there is no build step.

(() => {
  const C = "text/x-csrc";
  const holdsC = (model) => /^%%bpf\b/.test(model.sharedModel.getSource());
  const watched = new WeakSet();

  function colour(notebook) {
    for (const { model } of notebook.widgets) {
      if (model.type !== "code") continue;
      const set = () => {
        if (holdsC(model)) model.mimeType = C;
        else if (model.mimeType === C) model.mimeType = notebook.codeMimetype;
      };
      if (!watched.has(model)) {
        watched.add(model);
        model.mimeTypeChanged.connect(set);
      }
      set();
    }
  }

  const plugin = ({ INotebookTracker }) => ({
    id: "bpf-maps-measured:c-in-a-cell",
    autoStart: true,
    requires: [INotebookTracker],
    activate: (app, notebooks) => {
      notebooks.widgetAdded.connect((_, { content, context }) => {
        content.modelContentChanged.connect(() => colour(content));
        context.ready.then(() => colour(content));
      });
    },
  });

  let shared;
  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB["bpf-maps-measured"] = {
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const [version] = Object.values(shared["@jupyterlab/notebook"]);
      const notebook = (await version.get())();
      return () => ({ __esModule: true, default: plugin(notebook) });
    },
  };
})();
