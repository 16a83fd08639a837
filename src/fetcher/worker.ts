/** The entry of a fetch worker. */
import { serve } from '../rpc/index.ts'
import { fetchService } from './service.ts'

serve(fetchService())
