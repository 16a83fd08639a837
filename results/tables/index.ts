import type { Table } from '../row.ts'
import { ablationPage, demoRows as ablationRows } from './ablation.ts'
import { demoRows as adapterRows, adaptersPage } from './adapters.ts'
import { assertionPage, assertionRows } from './assertion.ts'
import { clinicPage, clinicRows } from './clinic.ts'
import { densityPage, demoRows as densityRows } from './density_alpha.ts'
import { loraRows, mergingPage, demoRows as mergingRows } from './merging.ts'
import { scalePage, scaleRows } from './scale.ts'
import { similarityPage, similarityRows } from './similarity.ts'

/** In the order in which they are measured and written. */
export const TABLES: readonly Table[] = [
  { id: 'density-alpha', rows: densityRows, page: densityPage },
  {
    id: 'ablation',
    rows: (benches, other) => ablationRows(benches, other('density-alpha')),
    page: ablationPage,
  },
  { id: 'adapters', rows: adapterRows, page: adaptersPage },
  {
    id: 'merging',
    rows: (benches) => [...mergingRows(benches), ...loraRows(benches)],
    page: mergingPage,
  },
  { id: 'scale', rows: scaleRows, page: scalePage },
  { id: 'similarity', rows: similarityRows, page: similarityPage },
  { id: 'assertion', rows: assertionRows, page: assertionPage },
  { id: 'clinic', rows: clinicRows, page: clinicPage },
]
