"""zarr's fused codec pipeline, which it has since 3.3 and does not choose by itself."""

from __future__ import annotations

from typing import Final

FUSED: Final = {
    "codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline",
    "codec_pipeline.max_workers": 1,
}
"""Settings for `zarr.config.set`. One worker, as several wait for each other at small chunks."""
