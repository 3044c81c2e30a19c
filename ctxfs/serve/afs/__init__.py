"""`/rpc`: the interface of AIGNE's Agentic File System (AFS) on a directory of the tree.

A request is {method, params} or {method, args}, a response {success, data} or {success, error}. Every file operation is a
request of the tree under its policy; the settings of actions only narrow its permissions.
"""
