package kubelet

import "testing"

func TestVariablesAreExpandedAsTheKubeletDoes(t *testing.T) {
	values := map[string]string{"A": "1", "EMPTY": ""}
	for text, want := range map[string]string{
		"$(A).x":      "1.x",
		"$(EMPTY)":    "",
		"$(UNKNOWN)":  "$(UNKNOWN)",
		"$$(A)":       "$(A)",
		"$A and $(A":  "$A and $(A",
		"100$":        "100$",
		"$(A)$$$(A)$": "1$1$",
	} {
		if got := expand(text, values); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
