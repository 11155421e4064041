"""The process that hosts environment copies and keeps everybody in step."""
