package main

import (
	"bytes"
	"fmt"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

func codes() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Codes\n\n" + generated)
	b.WriteString("Every message ends with a code. A code keeps its meaning for ever and is never given to anything else: `MM10x` and " +
		"`MM11x` are reasons to refuse an object, `MM15x` are warnings, `MM2xx` are about changes to an existing StatefulSet. `MM3xx` are policies, which have [a page of their own](policies.md). `MM4xx` are told by the controller of the companions, as Events on the StatefulSet and in its annotation `metamorph.dev/conditions`.\n\n")
	b.WriteString("| code | what | what to do |\n|---|---|---|\n")
	seen := map[setting.Code]bool{}
	for _, c := range setting.Codes {
		if c.Title == "" || c.Help == "" {
			return nil, fmt.Errorf("%s is not explained", c.Code)
		}
		if seen[c.Code] {
			return nil, fmt.Errorf("%s is there twice", c.Code)
		}
		seen[c.Code] = true
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Code, cell(c.Title), cell(c.Help))
	}
	return b.Bytes(), nil
}
