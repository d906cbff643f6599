"""vLLM's KV connector, as a thin shell: the scheduler's hooks lead to ``sharing.py``, the workers'
to ``copies.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    SupportsHMA,
)
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats
from vllm.v1.request import RequestStatus

from parathinker.backends.vllm.copies import Copier
from parathinker.backends.vllm.sharing import Sharing, StepOrders

ABANDONED_S = 600.0
"""By default, seconds after which a group that nobody asks anything of is forgotten."""
_WAITING = (RequestStatus.WAITING, RequestStatus.PREEMPTED)


@dataclass
class StepMetadata(KVConnectorMetadata):  # type: ignore[misc]  # vLLM ships no types for it
    """What goes from the scheduler to the workers with each step."""

    orders: StepOrders = field(default_factory=StepOrders)


class Holdings(KVConnectorStats):  # type: ignore[misc]
    """What scheduler and workers hold beside vLLM's own, and have moved so far; for the meter."""

    def reset(self) -> None:
        self.data.clear()

    def aggregate(self, other: KVConnectorStats) -> Holdings:
        # Workers all say the same, and the scheduler something else.
        return Holdings({**self.data, **other.data})

    def reduce(self) -> dict[str, int]:
        return self.data  # type: ignore[no-any-return]

    def is_empty(self) -> bool:
        return not self.data


class ParaThinkerConnector(KVConnectorBase_V1, SupportsHMA):  # type: ignore[misc]
    """One in the scheduler's process, one in each worker's."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._block_tokens = vllm_config.cache_config.block_size
        settings = vllm_config.kv_transfer_config.kv_connector_extra_config
        self._sharing = Sharing(
            self._block_tokens,
            lambda request: request.status in _WAITING,
            lambda request: request.status == RequestStatus.RUNNING,
            float(settings.get("abandoned_s", ABANDONED_S)),
        )
        self._copier = Copier()
        self._in_scheduler = role is KVConnectorRole.SCHEDULER

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> Holdings:
        return Holdings(data or {})

    def get_kv_connector_stats(self) -> Holdings:
        return Holdings(self._sharing.held() if self._in_scheduler else self._copier.held())

    # -- in the scheduler's process -------------------------------------------------------------

    def bind_gpu_block_pool(self, gpu_block_pool: Any) -> None:
        self._sharing.pool = gpu_block_pool

    def on_new_request(self, request: Any) -> None:
        self._sharing.on_new_request(request)

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int, bool]:
        return self._sharing.external_tokens(request, num_computed_tokens), False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        self._sharing.allocated(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> StepMetadata:
        return StepMetadata(self._sharing.step(scheduler_output.total_num_scheduled_tokens))

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self.request_finished(request, block_ids[0])

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return False, self._sharing.request_finished(request, block_ids)

    def reset_cache(self) -> bool:
        self._sharing.reset()
        return True

    # -- in a worker's process ------------------------------------------------------------------

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        self._copier.register(kv_caches, self._block_tokens)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, StepMetadata)
        if metadata.orders:
            self._copier.carry_out(metadata.orders)

    def wait_for_layer_load(self, layer_name: str) -> None:
        pass

    def save_kv_layer(
        self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any
    ) -> None:
        pass

    def wait_for_save(self) -> None:
        pass
