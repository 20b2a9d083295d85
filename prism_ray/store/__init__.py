"""The Parquet feature store: a versioned on-disk contract, written once and read by every trial."""

from prism_ray.store.arrays import GeneArrays
from prism_ray.store.place import StorePlace, place_of
from prism_ray.store.read import Store
from prism_ray.store.read import open_store as open  # the name that callers use is `prism_ray.store.open`
from prism_ray.store.row_groups import RowGroups
from prism_ray.store.schema import StoreDescription

__all__ = ["GeneArrays", "RowGroups", "Store", "StoreDescription", "StorePlace", "open", "place_of"]
