// For the web editor: names the node types of a workflow that this server does not have, and the page that lists those
// that it has. The editor's own message advises a newer ComfyUI and its manager, which would change nothing here.
import { app } from '/scripts/app.js'

const PAGE = '/supported'
const names = missing => [...new Set((missing ?? []).map(each => typeof each === 'string' ? each : each?.type).filter(Boolean))]
const open = missing => window.open(missing.length ? `${PAGE}?missing=${encodeURIComponent(missing.join('\n'))}` : PAGE, '_blank', 'noopener')

let last = []

app.registerExtension({
  name: 'graphflow.missing-nodes',
  aboutPageBadges: [{ label: 'GraphFlow', url: PAGE, icon: 'pi pi-info-circle' }],
  commands: [{ id: 'graphflow.supported', label: 'Node types of this GraphFlow server', function: () => open(last) }],
  menuCommands: [{ path: ['Help'], commands: ['graphflow.supported'] }],
  afterConfigureGraph (missing) {
    last = names(missing)
    if (!last.length) return
    const shown = last.slice(0, 8).join(', ') + (last.length > 8 ? ` and ${last.length - 8} more` : '')
    app.extensionManager.toast.add({
      severity: 'warn',
      summary: last.length === 1 ? 'GraphFlow has no node type of this name' : 'GraphFlow has no node types of these names',
      detail: `${shown}. A newer ComfyUI or its manager would not help. What is supported: ${location.origin}${PAGE} ` +
        '(also in the menu: Help, Node types of this GraphFlow server)',
      life: 20000
    })
  }
})
