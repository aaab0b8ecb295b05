// Exports a whole database with npm firestore-export-import, which is a library: node <this> <key file> <output file>.
// PEERS_DIR names the folder that holds its node_modules.
import { createRequire } from 'node:module'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const [keyFile, outputFile] = process.argv.slice(2)
const peer = createRequire(join(process.env.PEERS_DIR, 'package.json'))('firestore-export-import')

const firestore = peer.initializeFirebaseApp(JSON.parse(readFileSync(keyFile, 'utf8')))
const collections = await peer.backups(firestore)
writeFileSync(outputFile, JSON.stringify(collections))
