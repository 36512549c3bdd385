"""Small DICOM files, as bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

RAMP = np.linspace(0, 4000, 20 * 30).reshape(20, 30).astype(np.uint16)


def item(**tags: Any) -> Dataset:
    data = Dataset()
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def dicom(
    pixels: NDArray[Any], *, syntax: Any = ExplicitVRLittleEndian, coded: bytes | None = None, **tags: Any
) -> bytes:
    """A small file: [H, W], [frames, H, W] or [H, W, 3]."""
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data = item(
        SOPClassUID=CTImageStorage,
        SOPInstanceUID="1.2.3",
        Modality="CT",
        PatientName="Somebody^Real",
        Rows=pixels.shape[0 if colour else -2],
        Columns=pixels.shape[1 if colour else -1],
        SamplesPerPixel=3 if colour else 1,
        PhotometricInterpretation="RGB" if colour else "MONOCHROME2",
        BitsAllocated=8 * pixels.dtype.itemsize,
        BitsStored=8 * pixels.dtype.itemsize,
        HighBit=8 * pixels.dtype.itemsize - 1,
        PixelRepresentation=int(pixels.dtype.kind == "i"),
    )
    if colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    if coded is None:
        data.PixelData = (pixels.byteswap() if syntax == ExplicitVRBigEndian else pixels).tobytes()
    else:
        data.PixelData = pydicom.encaps.encapsulate([coded])
    for name, value in tags.items():
        setattr(data, name, value)
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


WINDOW = {"WindowCenter": 40, "WindowWidth": 400}
RESCALE = {"RescaleSlope": 2, "RescaleIntercept": -1024}
