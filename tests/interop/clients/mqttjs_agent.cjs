// MQTT.js, MQTT 3.1.1 and 5.0, over the TLS of Node.
'use strict'
const fs = require('node:fs')
const readline = require('node:readline')
const mqtt = require('mqtt')

const wanted = JSON.parse(process.argv[2])
const emit = (event, fields) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
const read = (path) => (path ? fs.readFileSync(path) : undefined)

let connected = false
let trouble = ''
const client = mqtt.connect({
  protocol: 'mqtts',
  host: wanted.host,
  port: wanted.port,
  protocolVersion: wanted.version,
  clientId: wanted.client_id,
  clean: true,
  keepalive: 30,
  reconnectPeriod: 0,
  ca: read(wanted.ca),
  cert: read(wanted.cert),
  key: read(wanted.key),
  maxVersion: wanted.tls_max === '1.2' ? 'TLSv1.2' : 'TLSv1.3',
  ALPNProtocols: wanted.alpn,
  username: wanted.username,
  password: wanted.password,
  will: wanted.will && { ...wanted.will, payload: Buffer.from(wanted.will.payload) },
})
client.on('connect', (connack) => {
  connected = true
  emit('connected', { session_present: connack.sessionPresent, tls: client.stream.getProtocol() })
})
client.on('error', (error) => { trouble = `${error.code ?? ''} ${error.message}`.trim() })
client.on('close', () => emit(connected ? 'closed' : 'refused', { why: trouble || 'closed' }))
client.on('message', (topic, payload, packet) =>
  emit('message', { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain }))

const operations = {
  subscribe: ({ filter, qos }) =>
    client.subscribe(filter, { qos }, (error, granted, packet) => {
      const codes = packet?.granted ?? error?.packet?.granted
      emit('subscribed', { code: codes?.[0] ?? granted?.[0]?.qos ?? 0x80, why: error?.message })
    }),
  publish: ({ topic, payload, qos, retain }) =>
    client.publish(topic, payload, { qos, retain }, (error) =>
      emit('published', { code: error ? (error.code ?? 0x80) : 0 })),
  disconnect: () => client.end(),
}
readline.createInterface({ input: process.stdin })
  .on('line', (line) => { const { op, ...fields } = JSON.parse(line); operations[op](fields) })
  .on('close', () => process.exit(0))
