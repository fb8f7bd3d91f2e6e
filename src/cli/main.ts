#!/usr/bin/env node

// Imported as a whole, all files of a program are opened at once. A room at a time needs few
// descriptors, so that a target starts where few are allowed; the last one is the program.
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
