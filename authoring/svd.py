"""The rival of terms: a truncated singular value decomposition whose factors have a few bits a value."""
import torch

BLOCK = 32
# An f16 scale for each block.
SCALE_BITS = 16 / BLOCK


def rounded(vectors, bits):
    """Rows in steps of the largest value of each 32: a symmetric grid of 2^bits − 1 levels."""
    length = vectors.shape[-1]
    blocks = torch.nn.functional.pad(vectors, (0, -length % BLOCK)).unflatten(-1, (-1, BLOCK))
    top = 2 ** (bits - 1) - 1
    step = (blocks.abs().amax(-1, keepdim=True) / top).clamp_min(1e-12).half().float()
    return ((blocks / step).round().clamp(-top, top) * step).flatten(-2)[..., :length]


@torch.no_grad()
def truncated(factors, rank, bits):
    """{module: (B, A)} of that rank, each projection on B · A of the adapter being 1, and the bytes of the values."""
    found, size = {}, 0
    for module, (b, a) in factors.items():
        q1, r1 = torch.linalg.qr(b)
        q2, r2 = torch.linalg.qr(a.T)
        u, s, v = torch.linalg.svd(r1 @ r2.T)
        root = s[:rank].sqrt()
        left = rounded(((q1 @ u)[:, :rank] * root).T, bits).T
        right = rounded((v[:rank] @ q2.T) * root[:, None], bits)
        square = ((b.T @ b) * (a @ a.T)).sum()
        product = ((b.T @ left) * (a @ right.T)).sum()
        found[module] = (left * (square / product), right)
        size += rank * (len(b) + a.shape[1]) * (bits + SCALE_BITS) / 8
    return found, round(size)
