import { management } from './commands.ts'
import { config } from './config.ts'
import { dstClient } from './dst/client.ts'
import { dstServer } from './dst/server.ts'
import { http } from './http.ts'
import { luks } from './luks.ts'
import { nbdClient } from './nbd/client.ts'
import { nbdServer } from './nbd/server.ts'
import { state } from './state.ts'
import { superblocks } from './superblocks.ts'
import { tlsUpgrade } from './tls.ts'
import type { Surface } from './trial.ts'

/** All ways in for hostile bytes. */
export const surfaces: readonly Surface[] = [
  nbdServer,
  dstServer,
  nbdClient,
  dstClient,
  luks,
  superblocks,
  state,
  config,
  http,
  tlsUpgrade,
  management,
]
