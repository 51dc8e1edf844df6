// A workflow with node types that this server does not have: what the editor shows.
import { browse, openEditor } from './browser.mjs'
const address = process.argv[4]
await browse({}, async (page, shot) => {
  await openEditor(page, address)
  await page.evaluate(() => {
    const node = (id, type, properties) => ({ id, type, pos: [50 * id, 60 * id], size: [200, 80], flags: {}, order: id, mode: 0,
      inputs: [], outputs: [{ name: 'IMAGE', type: 'IMAGE', links: [] }], properties, widgets_values: [] })
    return window.app.loadGraphData({ last_node_id: 3, last_link_id: 0, links: [], groups: [], config: {}, extra: {}, version: 0.4,
      nodes: [node(1, 'WanVaceToVideo', { cnr_id: 'comfy-core', ver: '0.3.70', 'Node name for S&R': 'WanVaceToVideo' }),
        node(2, 'Any Switch (rgthree)', { cnr_id: 'rgthree-comfy', ver: '1.0.0' }),
        node(3, 'EmptyImage', { cnr_id: 'comfy-core', ver: '0.3.70' })] })
  })
  await page.waitForFunction(() => document.body.innerText.includes('/supported'))
  await page.evaluate(() => [...document.querySelectorAll('button')].find(each => each.innerText === 'View details')?.click())
  await page.waitForFunction(() => document.body.innerText.includes('Missing here, of ComfyUI 0.3.70'))
  await shot('editor-8-missing')
  const text = await page.evaluate(() => document.body.innerText)
  await page.goto(String(new URL('/supported?missing=' + encodeURIComponent('WanVaceToVideo\nAny Switch (rgthree)\nEmptyImage'), address)))
  await page.waitForFunction(() => document.querySelectorAll('#types li').length > 0)
  await shot('supported-1')
  const missing = await page.evaluate(() => [...document.querySelectorAll('#missing b')].map(each => each.textContent))
  const listed = await page.evaluate(() => document.querySelectorAll('#types li').length)
  return { text, missing, listed }
})
