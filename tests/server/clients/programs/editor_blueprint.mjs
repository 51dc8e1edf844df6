// A part of a graph becomes a subgraph, is kept as a blueprint, and is inserted from the search of nodes; a LoRA is
// taken from the panel of models.
import { browse, openEditor } from './browser.mjs'
const address = process.argv[4]
await browse({}, async (page, shot) => {
  await openEditor(page, address)
  const blueprint = await page.evaluate(() => {
    const { canvas, graph } = window.app
    const chosen = graph._nodes.filter(node => ['KSampler', 'VAEDecode'].includes(node.type))
    const { subgraph, node } = canvas.graph.convertToSubgraph(new Set(chosen))
    subgraph.name = 'draw'
    node.title = 'draw'
    const whole = graph.serialize()
    return { ...whole, nodes: whole.nodes.filter(each => each.type === subgraph.id), links: [] }
  })
  const kept = await page.evaluate(async data => {
    const body = JSON.stringify({ ...data, extra: { ...data.extra } })
    return (await window.app.api.fetchApi('/userdata/' + encodeURIComponent('subgraphs/draw.json'), { method: 'POST', body })).status
  }, blueprint)
  await openEditor(page, address)
  // where nothing lies over the canvas, and no node: bars and the minimap come and go with what is loaded
  const place = await (await page.waitForFunction(() => {
    const { canvas, graph } = window.app
    for (let y = 120; y < 800; y += 20) {
      for (let x = 1200; x > 300; x -= 20) {
        const around = [[0, 0], [-15, -15], [15, 15], [-15, 15], [15, -15]]
        const isFree = around.every(([dx, dy]) => document.elementFromPoint(x + dx, y + dy) === canvas.canvas
          && !graph.getNodeOnPos(...canvas.ds.convertOffsetToCanvas([x + dx, y + dy])))
        if (isFree) return { x, y }
      }
    }
    return null
  })).jsonValue()
  await page.mouse.dblclick(place.x, place.y)
  await page.waitForTimeout(800)
  await page.keyboard.type('draw', { delay: 60 })
  await page.waitForTimeout(1500)
  await shot('editor-10-search')
  await page.keyboard.press('Enter')
  await page.waitForTimeout(1500)
  await shot('editor-11-blueprint')
  const types = await page.evaluate(() => window.app.graph._nodes.map(node => [node.type, node.title, node.isSubgraphNode?.() ?? false]))
  await page.keyboard.press('Escape')
  await page.locator('#graph-canvas').focus()
  await page.keyboard.press('m')
  await page.getByText('loras').first().waitFor()
  await page.getByText('loras').first().click()
  await page.getByText('style').first().waitFor()
  await page.getByText('style').first().click()
  await page.waitForTimeout(1500)
  await page.mouse.click(1100, 300)
  await page.waitForTimeout(800)
  await shot('editor-12-lora')
  const loras = await page.evaluate(() => window.app.graph._nodes.filter(node => /Lora/.test(node.type))
    .map(node => [node.type, node.widgets.find(each => each.name === 'lora_name').value]))
  return { kept, types, loras }
})
