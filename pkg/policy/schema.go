package policy

import (
	_ "embed"
	"encoding/json"
	"sync"
)

// inputSchema is what policies see, as JSON Schema; opa check --schema takes it, too.
//
//go:embed input.schema.json
var inputSchema []byte

// InputSchemaText is the schema as it stands in the file.
func InputSchemaText() []byte { return inputSchema }

var decodedSchema = sync.OnceValue(func() any {
	var v any
	if err := json.Unmarshal(inputSchema, &v); err != nil {
		panic(err) // of a file in the binary
	}
	return v
})

// InputSchema is the schema, decoded, as [Loader] takes it.
func InputSchema() any { return decodedSchema() }
