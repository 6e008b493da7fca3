"""Decodes framed Avro: lines of `URL HEX` in, JSON lines out. fastavro knows nothing of our writer."""
import base64, io, json, sys, urllib.request
import fastavro

schemas = {}

def schema_of(url, number):
    if number not in schemas:
        with urllib.request.urlopen(f"{url}/schemas/ids/{number}") as answer:
            schemas[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
    return schemas[number]

def plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)

for line in sys.stdin:
    url, data = line.split()
    data = bytes.fromhex(data)
    assert data[0] == 0, data[:5]
    number = int.from_bytes(data[1:5], "big")
    rest = io.BytesIO(data[5:])
    schema = schema_of(url, number)
    value = fastavro.schemaless_reader(rest, schema)
    assert not rest.read(), "bytes are left"
    name = schema["name"]
    print(json.dumps({"id": number, "schema": name, "value": value}, default=plain), flush=True)
