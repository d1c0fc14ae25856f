import { createHash } from 'node:crypto'
import { Html } from './html.ts'

/** The one style of the pages. Text from elsewhere is kept from reordering what stands around it. */
const STYLE = `
:root{color-scheme:light dark;--ink:#1a1c1f;--soft:#5b6270;--paper:#fff;--plane:#f4f5f7;--line:#d5d9e0;--link:#0b57b7;--yes:#1c6b34;--no:#a8201a;--warn:#fff3d1;--warn-ink:#553c00}
@media (prefers-color-scheme:dark){:root{--ink:#e7e9ed;--soft:#a1a8b5;--paper:#15171a;--plane:#1f2226;--line:#3a3f47;--link:#8ab8ff;--yes:#2f8a4b;--no:#c9403a;--warn:#3d3108;--warn-ink:#ffe6a6}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
header,main{max-width:60rem;margin:0 auto;padding:.75rem 1rem}
header{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center;border-bottom:1px solid var(--line)}
header b{flex:1}
header form{margin:0}
h1{font-size:1.4rem;line-height:1.25;margin:.75rem 0;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:1.75rem 0 .5rem}
h3{font-size:1rem;font-weight:600;margin:1rem 0 .35rem}
a{color:var(--link)}
p{margin:.5rem 0}
.soft{color:var(--soft)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem;margin:.5rem 0}
dt{color:var(--soft)}
dd{margin:0;min-width:0;overflow-wrap:anywhere}
pre,.text{font:14px/1.5 ui-monospace,monospace;direction:ltr;unicode-bidi:isolate-override;white-space:pre-wrap;overflow-wrap:anywhere}
pre{margin:.5rem 0;padding:.75rem;background:var(--plane);border:1px solid var(--line);border-radius:6px;tab-size:4}
.claim{margin:.5rem 0;padding:.6rem .75rem;border:2px dashed var(--line);border-radius:6px}
.beware{margin:.75rem 0;padding:.6rem .75rem;border-radius:6px;background:var(--warn);color:var(--warn-ink)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{padding:.4rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
td{overflow-wrap:anywhere;min-width:6rem}
th{color:var(--soft);font-weight:600}
.null{color:var(--soft);font-style:italic}
label{display:block;margin:.75rem 0 .25rem}
input,textarea{width:100%;padding:.6rem;font:inherit;color:inherit;background:var(--paper);border:1px solid var(--soft);border-radius:6px}
button{padding:.6rem 1.2rem;min-height:2.75rem;font:inherit;font-weight:600;color:#fff;background:var(--link);border:0;border-radius:6px;cursor:pointer}
@media (prefers-color-scheme:dark){button{color:#0c1420}.yes,.no{color:#fff}}
.yes{background:var(--yes)}
.no{background:var(--no)}
.plain{padding:.3rem .6rem;min-height:0;color:var(--ink);background:none;border:1px solid var(--line)}
.acts{display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem 0}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
@media (max-width:40rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}.acts button{flex:1}}
`

/** The element: built from one string, because its content is hashed to the byte. */
export const STYLE_ELEMENT = new Html(`<style>${STYLE}</style>`)

/** What a policy names the style by (CSP level 3, section 2.3.1): any other style is not applied. */
export const STYLE_HASH = `sha256-${createHash('sha256').update(STYLE).digest('base64')}`
