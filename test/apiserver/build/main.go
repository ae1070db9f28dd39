// Command build makes the binaries of the control plane that the tests and the demonstration use, or those that its
// arguments name, and prints where they are. The tests do it by themselves; this shows how far it is.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"

	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	binaries, err := apiserver.Binaries(ctx, os.Stderr, os.Args[1:]...)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	for _, name := range slices.Sorted(maps.Keys(binaries)) {
		fmt.Println(binaries[name])
	}
}
