"""Bodies, queries and answers of every route, as msgspec Structs; checks and OpenAPI are made from them."""
