"""The explorer: a workspace's artifacts filtered, searched, sorted and counted; see `front.Explorer`."""

from gitstore.explorer.front import Explorer
from gitstore.explorer.joined import Row, row_json
from gitstore.explorer.page import ExplorerPage
from gitstore.explorer.scan import Scan, explore
from gitstore.query import ExplorerQuery, parse_query

__all__ = ["Explorer", "ExplorerPage", "ExplorerQuery", "Row", "Scan", "explore", "parse_query", "row_json"]
