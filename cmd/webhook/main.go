// Command metamorph expands annotated StatefulSets into complete Kafka and ZooKeeper ones: as a webhook in a cluster, and
// on files without one.
//
// Standard output is data, standard error is report. The exit code is 0 for a clean end, 1 if something was refused, 2
// for wrong usage or input that cannot be read, 3 for an error of Metamorph's own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitRefused  = 1
	exitUsage    = 2
	exitInternal = 3
)

const issues = "https://github.com/metamorph-k8s/metamorph/issues"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns its exit code. More commands are for tests.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, more ...*cobra.Command) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(stderr, "metamorph %s: internal error: %v\n%s\nThis is a bug. Please report it with the above: %s\n", currentVersion(), r, debug.Stack(), issues)
			code = exitInternal
		}
	}()
	cmd := newCommand()
	cmd.AddCommand(more...)
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var known *exitError
	if !errors.As(err, &known) {
		// Of cobra's own: an unknown command or flag, or the wrong number of arguments.
		known = &exitError{exitUsage, fmt.Errorf("%w\nRun '%s --help' for usage", err, cmd.Name())}
	}
	if known.err != nil {
		fmt.Fprintf(stderr, "%s %v\n", paint(stderr, red, "Error:"), known.err)
	}
	return known.code
}

// exitError ends the process with a code. Its error is nil if everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprint(e.err) }

func (e *exitError) Unwrap() error { return e.err }

func usage(err error) error { return &exitError{exitUsage, err} }

// runs makes every error of a command that does not name its code an internal one, so that cobra's can be told apart.
func runs(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd, args)
		var known *exitError
		if err == nil || errors.As(err, &known) {
			return err
		}
		return &exitError{exitInternal, err}
	}
}

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "metamorph",
		Short: "Complete Kafka and ZooKeeper StatefulSets from a few annotations",
		Long: `Metamorph expands a StatefulSet that is almost empty but for its annotations into a complete, production-grade
Kafka or ZooKeeper one: at admission, as a webhook in the cluster, or beforehand, on files.

Exit codes: 0 clean, 1 something was refused, 2 wrong usage or unreadable input, 3 internal error.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: runs(func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return &exitError{exitUsage, nil}
		}),
	}
	cmd.AddCommand(newServe(), newExpand(), newCheck(), newTest(), newExplain(), newPurge(), newVersion())
	return cmd
}
