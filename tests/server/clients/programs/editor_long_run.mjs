// A long run: a reload of the page picks its progress up again, the list of jobs shows it, and it can be stopped.
import { browse, listen, openEditor, run, setWidgets, told } from './browser.mjs'
const address = process.argv[4]
await browse({}, async (page, shot) => {
  await openEditor(page, address)
  await setWidgets(page, { KSampler: { steps: 900, seed: 5 }, EmptyLatentImage: { batch_size: 1 } })
  await run(page)
  await told(page, 'progress')
  await page.reload()
  await page.waitForFunction(() => window.app?.graph?._nodes?.some(node => node.type === 'KSampler'))
  await listen(page)
  await told(page, 'progress')
  await page.waitForTimeout(1500)
  await shot('editor-6-reloaded')
  const again = await page.evaluate(() => ({
    progress: window.told.filter(each => each[0] === 'progress').map(each => [each[1].value, each[1].max]),
    active: document.querySelector('[data-testid="queue-overlay-toggle"]')?.innerText
  }))
  await page.getByTestId('queue-overlay-toggle').click()
  await page.waitForTimeout(1000)
  await shot('editor-7-jobs')
  await page.getByLabel('Cancel current run').first().click()
  await told(page, 'execution_interrupted')
  await page.waitForTimeout(1000)
  await shot('editor-8-stopped')
  const queue = await (await page.request.get(String(new URL('/queue', address)))).json()
  return { again, left: queue.queue_running.length + queue.queue_pending.length }
})
