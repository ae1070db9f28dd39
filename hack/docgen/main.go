// Command docgen writes the reference pages in docs/reference from the settings, the profiles, the codes and the policies, so that
// they say what the program does. Run it from the root of the repository: go run ./hack/docgen
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// pages are the generated files, by their path below the root.
var pages = map[string]func() ([]byte, error){
	"docs/reference/annotations.md": annotations,
	"docs/reference/codes.md":       codes,

	"docs/reference/policies.md":              policyReference,
	"docs/reference/policy-input.md":          policyInput,
	"docs/reference/policy-input.schema.json": policyInputSchema,
}

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	for name, write := range pages {
		text, err := write()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
