// Command demo shows Metamorph at work: it starts a real control plane (no nodes), registers the webhook, applies the
// three-line example with kubectl, and shows what became of it. Every step is checked; the first that fails ends the
// demonstration with exit code 1. Nothing is left behind. Run it from the root of the repository: make demo
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

// defaultManifest is the three-line example.
const defaultManifest = "examples/kafka.yaml"

const (
	// buildTimeout is for building the control plane, which happens once.
	buildTimeout = 45 * time.Minute
	// demoTimeout is for everything else, which takes half a minute.
	demoTimeout = 5 * time.Minute
)

func main() {
	binary := flag.String("metamorph", "bin/metamorph", "the program to show; make build makes it")
	manifest := flag.String("f", defaultManifest, "the manifest to apply")
	all := flag.Bool("all", false, "show every field, not the telling ones only")
	flag.Parse()

	// So that a second interrupt ends the program at once, the first one only asks it to clean up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	d := &demo{out: os.Stdout, metamorph: *binary, file: *manifest, all: *all}
	err := d.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nThe demonstration failed:", err)
		os.Exit(1)
	}
}

type demo struct {
	out             io.Writer
	metamorph, file string
	all             bool

	steps   int
	server  *apiserver.Server
	webhook *process
}

func (d *demo) run(ctx context.Context) (err error) {
	began := time.Now()
	building, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	if _, err := apiserver.Binaries(building, d.out); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, demoTimeout)
	defer cancel()

	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err) // rather than what became of the command that it cut off
		}
		d.step("Taking everything down")
		if d.webhook != nil {
			d.webhook.Stop()
		}
		if d.server != nil {
			err = errors.Join(err, d.server.Stop())
		}
		if err == nil {
			d.say("\nDone in %s. Nothing is left running.", time.Since(began).Round(time.Second))
		}
	}()

	for _, part := range []func(context.Context) error{
		d.startControlPlane, d.startWebhook, d.apply, d.applyAgain, d.pods, d.change, d.refuse, d.judge,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// step begins a part of the demonstration.
func (d *demo) step(title string) {
	d.steps++
	d.say("\n── %d. %s %s", d.steps, title, strings.Repeat("─", max(0, 90-len([]rune(title)))))
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// show prints a text, indented.
func (d *demo) show(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		fmt.Fprint(d.out, "   ", line)
	}
}

// kubectl runs kubectl and shows the command and what it says.
func (d *demo) kubectl(ctx context.Context, stdin string, args ...string) error {
	d.say("   $ kubectl %s", strings.Join(args, " "))
	out, report, err := d.server.Kubectl(ctx, stdin, args...)
	if text := strings.TrimSpace(report + out); text != "" {
		d.show(text)
	}
	return err
}
