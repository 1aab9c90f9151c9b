// Runs the status page's script against a document that only remembers what is put into it.
// Standard input: {"page": HTML, "status": what /status answers}. Standard output: what each element has in the end.
import vm from "node:vm";

let input = "";
for await (const chunk of process.stdin) input += chunk;
const { page, status } = JSON.parse(input);

const element = tag => ({
  tag, className: "", textContent: "", hidden: false, style: {}, children: [],
  append(...more) { this.children.push(...more); },
  replaceChildren(...more) { this.children = more; },
});
const words = node => (typeof node === "string" ? node : node.textContent + node.children.map(words).join(" "));
const byId = Object.fromEntries([...page.matchAll(/id="(\w+)"/g)].map(([, id]) => [id, element(id)]));
const classes = new Set();
const document = {
  getElementById: id => byId[id],
  createElement: element,
  body: { classList: { add: name => classes.add(name), remove: name => classes.delete(name) } },
};
const [, script] = page.match(/<script>([^]*?)<\/script>/);
const shown = () => {
  const found = Object.entries(byId).map(([id, node]) =>
    [id, { className: node.className, hidden: node.hidden, text: words(node) }]);
  console.log(JSON.stringify({ ...Object.fromEntries(found), classes: [...classes] }));
};
const fetch = async () => ({ ok: true, json: async () => status });
vm.runInNewContext(script, { document, fetch, AbortSignal, setTimeout: shown });
