// A part of a graph becomes a subgraph, is kept as a blueprint, and is inserted from the search of nodes; a LoRA is
// taken from the panel of models.
import { browse, openEditor } from './browser.mjs'
const address = process.argv[4]

/** Where nothing lies over the canvas, and no node: bars and the minimap come and go with what is loaded. */
const freePlace = async page => (await page.waitForFunction(() => {
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
  const search = page.getByLabel('Add a node...')
  const draw = page.getByText('User generated subgraph blueprint').first()
  while (!await draw.isVisible()) { // a click may meet what has just come over the canvas, a search what is not loaded yet
    if (!await search.isVisible()) {
      const place = await freePlace(page)
      await page.mouse.dblclick(place.x, place.y)
    }
    await search.fill('draw', { timeout: 5000 }).catch(() => {})
    await draw.waitFor({ timeout: 5000 }).catch(() => search.fill('', { timeout: 5000 }).catch(() => {}))
  }
  await shot('editor-10-search')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => window.app.graph._nodes.some(node => node.isSubgraphNode?.()))
  const place = await freePlace(page) // a node follows the mouse until a click puts it down
  await page.mouse.click(place.x, place.y)
  await page.waitForTimeout(500)
  await shot('editor-11-blueprint')
  await page.keyboard.press('Escape')
  const types = await page.evaluate(() => window.app.graph._nodes.map(node => [node.type, node.title, node.isSubgraphNode?.() ?? false]))
  await page.locator('#graph-canvas').focus()
  await page.keyboard.press('m')
  await page.getByText('loras').first().waitFor()
  await page.getByText('loras').first().click()
  await page.getByText('style').first().waitFor()
  await page.getByText('style').first().click()
  await page.waitForTimeout(500)
  const beside = await freePlace(page)
  await page.mouse.click(beside.x, beside.y)
  await page.waitForFunction(() => window.app.graph._nodes.some(node => /Lora/.test(node.type)))
  await shot('editor-12-lora')
  const loras = await page.evaluate(() => window.app.graph._nodes.filter(node => /Lora/.test(node.type))
    .map(node => [node.type, node.widgets.find(each => each.name === 'lora_name').value]))
  return { kept, types, loras }
})
