// Drives http-cache-tests, in either edition, for run.py. One JSON value or line on standard output.
//
//   node engine.mjs SUITE list             what tests there are
//   node engine.mjs SUITE origin [PORT]    serve the suite's origin on loopback; prints its port, runs until stopped
//   node engine.mjs SUITE run BASE [ID…]   run the tests (those named, or all) against the cache at BASE
//
// The npm edition keeps its engine at its root, wants a fetch function, and leaves one group of tests out of its
// index; the current edition keeps the engine in test-engine/.

import { existsSync } from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import process from 'node:process'

const [suite, command, target, ...ids] = process.argv.slice(2)
const npmEdition = !existsSync(path.join(suite, 'test-engine'))
const engine = npmEdition ? suite : path.join(suite, 'test-engine')

async function groups () {
  const { default: found } = await import(path.join(suite, 'tests/index.mjs'))
  if (!npmEdition) return found
  const { default: surrogate } = await import(path.join(suite, 'tests/surrogate-control.mjs'))
  return [...found, surrogate]
}

async function list () {
  const tests = (await groups()).flatMap(group => group.tests.map(test => ({
    id: test.id,
    name: test.name,
    group: group.id,
    kind: test.kind ?? 'required',
    needs: test.depends_on ?? [],
    for_browsers: test.browser_only === true
  })))
  console.log(JSON.stringify(tests))
}

async function origin () {
  // The suite's server listens on every address: here, on loopback alone.
  const create = http.createServer
  http.createServer = handler => {
    const server = create(handler)
    const listen = server.listen.bind(server)
    server.listen = () => listen(Number(target ?? 0), '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`))
    return server
  }
  console.log = () => {}
  process.env.npm_config_protocol = 'http'
  process.env.npm_config_port = '80'
  process.env.npm_config_pidfile = '/dev/null'
  await import(path.join(engine, 'server/server.mjs'))
}

async function run () {
  const chosen = (await groups()).map(group => ({
    ...group, tests: group.tests.filter(test => ids.length === 0 || ids.includes(test.id))
  }))
  const { runTests, getResults } = await import(path.join(engine, 'client/runner.mjs'))
  const say = console.log
  console.log = console.error
  if (npmEdition) {
    const fetch = createRequire(path.join(suite, 'package.json'))('node-fetch')
    await runTests(chosen, fetch, false, target)
  } else {
    await runTests(chosen, false, target)
  }
  say(JSON.stringify(getResults()))
  process.exit(0)
}

await { list, origin, run }[command]()
