import { quickTests } from './files.ts'

/** Prints the files of the quick run, for `npm run test:quick`. */
console.log(quickTests().join('\n'))
