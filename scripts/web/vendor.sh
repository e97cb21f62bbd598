#!/usr/bin/env bash
# Writes the web client's libraries into sse_gateway/web/vendor, each as one module, from the versions of the lock file.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --silent --no-audit --no-fund
vendor=../../sse_gateway/web/vendor
rm -rf "$vendor"
mkdir -p "$vendor/fonts"
bundle() {
  npx esbuild --bundle --format=esm --minify --legal-comments=none --log-level=error --outfile="$vendor/$1.js"
}
echo 'export { default } from "dompurify";' | bundle dompurify
echo 'export { createParser } from "eventsource-parser";' | bundle eventsource-parser
# With mhchem, for \ce and \pu: it adds a tenth, which is not worth a second request.
echo 'import katex from "katex"; import "katex/contrib/mhchem"; export default katex;' | bundle katex
echo 'export { default } from "markdown-it";' | bundle markdown-it
# The formats of fonts other than woff2 are for browsers that cannot run the modules.
npx esbuild node_modules/katex/dist/katex.css --bundle --minify --log-level=error '--external:*.woff2' '--external:*.woff' \
  '--external:*.ttf' --outfile="$vendor/katex.css"
cp node_modules/katex/dist/fonts/*.woff2 "$vendor/fonts/"
for library in dompurify eventsource-parser katex markdown-it; do
  printf '%s %s\n\n' "$library" "$(node -p "require('./node_modules/$library/package.json').version")"
  cat "node_modules/$library/LICENSE"
  printf '\n'
done >"$vendor/LICENSES.txt"
{
  printf "mhchem, a part of KaTeX's package; the text of the Apache License is above, with dompurify\n\n"
  sed -n '/Copyright (c) 2011/,/limitations under the License/s/^ \*  \?//p' node_modules/katex/contrib/mhchem/mhchem.js
} >>"$vendor/LICENSES.txt"
