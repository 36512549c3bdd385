"""A worker process of `workforce`: an order and then jobs as JSON lines on stdin, records on stdout, until stdin ends."""

from __future__ import annotations

import json
import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from blemish.errors import BlemishError
from blemish.runs.packing import unpack
from blemish.runs.work import ImageJob, ImageWork, WorkOrder

__all__: list[str] = []


def _serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    def answer(**said: Any) -> None:
        answers.write(json.dumps(said).encode() + b"\n")
        answers.flush()

    try:
        work = ImageWork(WorkOrder.of_dict(json.loads(orders.readline())))
        answer(ready=True)
        pool = ThreadPoolExecutor(work.threads, thread_name_prefix="blemish")
        while line := orders.readline():
            told = json.loads(line)
            if "packed" in told:
                batch = unpack(orders.read(told["packed"]))
                first, records = 0, iter(work.score(batch.images, batch.names, pool))
            else:
                job = ImageJob(**told)
                first, records = job.start, work.records(job)
            for number, record in enumerate(records, start=first):
                answer(number=number, record=record)
            answer(done=first)
    except BlemishError as error:
        answer(refused=str(error), kind=type(error).__name__)
    except BrokenPipeError:  # whoever asked has ended
        os._exit(1)
    except Exception as error:
        traceback.print_exc()
        answer(failed=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints goes astray, not among the answers
    _serve(sys.stdin.buffer, answers)
