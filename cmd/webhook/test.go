package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/policytest"
	"github.com/metamorph-k8s/metamorph/policies"
)

func newTest() *cobra.Command {
	var builtin, verbose bool
	var threshold float64
	output := oneOf("text", "json")
	cmd := &cobra.Command{
		Use:   "test DIR",
		Short: "Test policies: fixtures, Rego unit tests, coverage",
		Long: `Test the policies in a folder: one policy in each folder below it, or in the folder itself.

Beside a policy stand fixtures.yaml, a list of StatefulSets with what the policy is to say of each, and unit tests in
Rego, *_test.rego. The fixtures are expanded and judged as in a cluster; fixes that are offered have been tried. A
policy needs at least one fixture that it finds something in, and one that it allows, or unit tests.`,
		Example: `  metamorph test policies/
  metamorph test policies/replication --verbose`,
		Args: cobra.ExactArgs(1),
		RunE: runs(func(cmd *cobra.Command, args []string) error {
			dir := filepath.Clean(args[0])
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				return usage(fmt.Errorf("%s is no folder", dir))
			}
			r := policytest.Runner{Loader: loader(), Builtin: builtin}
			if builtin {
				// The libraries as they stand beside the policies, and not as they were compiled in.
				root := dir
				if _, err := os.Stat(filepath.Join(root, policies.Library)); err != nil {
					root = filepath.Dir(dir)
				}
				var err error
				if r.Loader.Libraries, err = policies.ReadLibraries(os.DirFS(root), filepath.ToSlash(root)); err != nil {
					return err
				}
			}
			start := time.Now()
			report, err := r.Run(cmd.Context(), os.DirFS(dir), filepath.ToSlash(dir))
			if err != nil {
				return usage(err)
			}
			if output.value == "json" {
				if err := printJSON(cmd.OutOrStdout(), report); err != nil {
					return err
				}
			} else {
				printTests(cmd.OutOrStdout(), report, verbose, time.Since(start))
			}
			low := slices.ContainsFunc(report.Coverage, func(c policytest.Coverage) bool { return c.Percent < threshold })
			if report.Failed() > 0 || low {
				return &exitError{exitRefused, nil}
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.VarP(output, "output", "o", "text or json")
	f.BoolVarP(&verbose, "verbose", "v", false, "list the tests that pass, too")
	f.Float64Var(&threshold, "threshold", 0, "least coverage of every policy, in percent")
	f.BoolVar(&builtin, "builtin", false, "allow the codes that are Metamorph's own")
	_ = f.MarkHidden("builtin")
	return cmd
}

// loader compiles policies with what Metamorph has for them.
func loader() *policy.Loader {
	return policies.Loader()
}

func printTests(w io.Writer, report *policytest.Report, verbose bool, took time.Duration) {
	for _, r := range report.Results {
		switch {
		case r.Failure != "":
			fmt.Fprintf(w, "%s  %s (%s)\n      %s\n", paint(w, red, "FAIL"), r.Name, r.File, strings.ReplaceAll(r.Failure, "\n", "\n      "))
		case verbose:
			fmt.Fprintf(w, "ok    %s\n", r.Name)
		}
	}
	sum := 0.0
	for _, c := range report.Coverage {
		sum += c.Percent
		if c.Percent < 100 {
			fmt.Fprintf(w, "%5.1f %% covered  %s, without line%s\n", c.Percent, c.File, plural(c.Missed))
		}
	}
	fmt.Fprintf(w, "%d passed, %d failed; coverage %.1f %%; %s\n", len(report.Results)-report.Failed(), report.Failed(), sum/float64(max(len(report.Coverage), 1)), took.Round(time.Millisecond))
}

func plural(lines []int) string {
	text := strings.Trim(fmt.Sprint(lines), "[]")
	if len(lines) == 1 {
		return " " + text
	}
	return "s " + strings.ReplaceAll(text, " ", ", ")
}
