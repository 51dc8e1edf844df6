// The editor's first page holds a workflow of ours; Run draws its picture, with progress and previews. After a reload the
// panels of the queue and of the pictures show what has been made.
import { all, browse, openEditor, run, setWidgets, told } from './browser.mjs'
const address = process.argv[4]
await browse({}, async (page, shot) => {
  const pictures = []
  page.on('response', answer => { if (answer.url().includes('/view?') && answer.ok()) pictures.push(answer.url()) })
  await openEditor(page, address, '/')
  await shot('editor-1-opened')
  const types = await page.evaluate(() => window.app.graph._nodes.map(node => node.type))
  await setWidgets(page, { KSampler: { steps: 60, seed: 77 }, EmptyLatentImage: { batch_size: 1 } })
  await run(page)
  await page.waitForFunction(() => window.told.some(each => each[0] === 'progress' && each[1].value > 5))
  await shot('editor-2-running')
  await told(page, 'execution_success')
  await page.waitForFunction(() => window.app.graph._nodes.some(node => node.type === 'SaveImage' && node.imgs?.length))
  await page.waitForTimeout(1000)
  await shot('editor-3-done')
  const shown = await page.evaluate(() => window.app.graph._nodes.find(node => node.type === 'SaveImage').imgs[0].naturalWidth)
  const progress = (await all(page, 'progress')).map(({ node, value, max }) => [node, value, max])
  const previews = (await all(page, 'b_preview_with_metadata')).length + (await all(page, 'b_preview')).length
  const executed = (await all(page, 'executing')).length
  await page.reload()
  await page.getByTestId('queue-overlay-toggle').click()
  await page.getByRole('button', { name: 'Completed' }).click()
  const history = await page.getByTestId('queue-progress-overlay').getByText(/_\d{5}_\.png/).first().innerText()
  await page.getByTestId('assets-tab-button').click()
  await page.waitForFunction(() => [...document.images].some(each => each.src.includes('_00001_.png') && each.naturalWidth))
  await shot('editor-9-history')
  return {
    types, shown, pictures: pictures.length, progress, previews, executed, history
  }
})
