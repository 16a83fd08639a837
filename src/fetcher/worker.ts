/** The entry of a fetch worker. */
import { serve } from '../rpc.ts'
import { fetchService } from './service.ts'

serve(fetchService())
