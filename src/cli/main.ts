#!/usr/bin/env node

// A single import would open all files of the program at once. Importing a room at a time needs few
// descriptors, so that a target starts where few are allowed. The last import is the program.
await import('../base/slab.ts')
await import('../devices/file/file.ts')
await import('../mirror/volume.ts')
await import('../mirror/mirror.ts')
await import('../wire/server.ts')
await import('../wire/remote.ts')
await import('../nbd/server.ts')
await import('../nbd/remote.ts')
await import('../daemon/target.ts')
await import('./dst.ts')
