package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/metamorph-k8s/metamorph/pkg/check"
	"github.com/metamorph-k8s/metamorph/pkg/manifest"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/policy/source"
	"github.com/metamorph-k8s/metamorph/pkg/report"
	"github.com/metamorph-k8s/metamorph/policies"
)

// checkFlags are those of check.
type checkFlags struct {
	manifest.Options

	files, data, policies, config []string
	output, failLevel             *choice
	fix                           bool
}

func newCheck() *cobra.Command {
	o := checkFlags{output: oneOf(report.Formats()...), failLevel: oneOf("deny", "warn")}
	o.Version = currentVersion()
	cmd := &cobra.Command{
		Use:   "check -f FILE|DIR|-",
		Short: "Judge manifests by the policies, without a cluster",
		Long: `Expand every StatefulSet in the manifests, and hold what comes out against the policies, as admission does in a
cluster. StatefulSets without Metamorph's annotations are judged, too, by the policies that are for them.

Policies about changes (shrinking, downgrades, deletions) need the stored object, and find nothing here.

Other objects among the manifests, and in --data, are what the policies see of the cluster: Namespaces, StorageClasses,
ResourceQuotas, LimitRanges, PodDisruptionBudgets, HorizontalPodAutoscalers, Secrets with certificates, StatefulSets.

--fix writes what is known to pass into the files. Every fix was tried: with it the manifest is expanded, and the policy
content.

Exit codes: 0 clean, 1 something was found that is as bad as --fail-level, 2 wrong usage or unreadable input, 3 internal
error.`,
		Example: `  metamorph check -f kafka.yaml
  metamorph check -f manifests/ --data cluster/ -o sarif > findings.sarif
  metamorph check -f kafka.yaml --fix && git diff`,
		Args: cobra.NoArgs,
		RunE: runs(func(cmd *cobra.Command, _ []string) error { return runCheck(cmd, o) }),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, "file, folder, or - for the standard input; can be repeated")
	f.VarP(o.output, "output", "o", fmt.Sprintf("one of %v", report.Formats()))
	f.StringArrayVar(&o.data, "data", nil, "file or folder with further objects of the cluster, which are not judged; can be repeated")
	f.StringArrayVar(&o.policies, "policies", nil, "folder with policies of your own, beside the built-in ones; can be repeated")
	f.StringArrayVar(&o.config, "config", nil, "file that tunes policies and excepts objects; can be repeated")
	f.Var(o.failLevel, "fail-level", "deny or warn: what makes the exit code 1")
	f.BoolVar(&o.fix, "fix", false, "write fixes into the files")
	f.StringVarP(&o.Namespace, "namespace", "n", "default", "namespace of the objects that name none")
	f.StringVar(&o.ClusterUID, "cluster-uid", "", "UID of the cluster's namespace kube-system, which the cluster ids are derived from")
	return cmd
}

func runCheck(cmd *cobra.Command, o checkFlags) error {
	if len(o.files) == 0 {
		return usage(errors.New("say with -f what to check: a file, a folder, or - for the standard input"))
	}
	set, err := policySet(o.policies, o.config)
	if err != nil {
		return usage(err)
	}
	docs, err := manifest.Read(o.files, cmd.InOrStdin())
	if err != nil {
		return usage(err)
	}
	data, err := manifest.Read(o.data, nil)
	if err != nil {
		return usage(err)
	}
	options := check.Options{Options: o.Options, Set: set, Data: data, Now: time.Now(), Failed: func(p *policy.Policy, err error) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s the policy %s failed: %v\n", paint(cmd.ErrOrStderr(), yellow, "Warning:"), p.Code, err)
	}}
	for _, w := range slices.Concat(set.Warnings, set.Expired(options.Now)) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s %v\n", paint(cmd.ErrOrStderr(), yellow, "Warning:"), w)
	}
	subjects, err := check.Check(cmd.Context(), docs, options)
	if err != nil {
		return usage(err)
	}
	if len(subjects) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s there is no apps/v1 StatefulSet in the input\n", paint(cmd.ErrOrStderr(), yellow, "Warning:"))
	}
	if o.fix {
		if docs, subjects, err = fix(cmd, docs, subjects, options); err != nil {
			return err
		}
	}
	out := check.Report(docs, subjects, set, o.Version)
	err = report.Write(cmd.OutOrStdout(), o.output.value, out, report.Options{Paint: func(style, text string) string {
		return paint(cmd.OutOrStdout(), map[string]string{report.Deny: red, report.Warn: yellow}[style], text)
	}})
	if err != nil {
		return err
	}
	if o.output.value == "text" && len(out.Findings) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "metamorph explain %s says why, and what to do\n", out.Findings[0].Code)
	}
	for _, f := range out.Findings {
		if f.Severity == report.Deny || f.Severity == report.Warn && o.failLevel.value == "warn" {
			return &exitError{exitRefused, nil}
		}
	}
	return nil
}

// policySet loads the built-in policies, and those in folders with what tunes them.
func policySet(folders, configs []string) (*policy.Set, error) {
	l := loader()
	builtin, err := l.Load(policies.Source())
	if err != nil {
		return nil, err
	}
	bundles, tunings := []*policy.Bundle{builtin}, []*policy.Config{}
	for _, dir := range folders {
		files, err := source.ReadFolder(dir)
		if err != nil {
			return nil, err
		}
		if text, ok := files[source.ConfigFile]; ok {
			c, err := policy.ParseConfig(dir, filepath.Join(dir, source.ConfigFile), []byte(text))
			if err != nil {
				return nil, err
			}
			tunings = append(tunings, c)
			delete(files, source.ConfigFile)
		}
		if len(files) > 0 {
			b, err := l.Load(&policy.Source{Name: dir, Files: files})
			if err != nil {
				return nil, err
			}
			bundles = append(bundles, b)
		}
	}
	for _, file := range configs {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		c, err := policy.ParseConfig(file, file, text)
		if err != nil {
			return nil, err
		}
		tunings = append(tunings, c)
	}
	return policy.NewSet(bundles, tunings...)
}

// fix writes the fixes into the files and checks again.
func fix(cmd *cobra.Command, docs []manifest.Document, subjects []check.Subject, o check.Options) ([]manifest.Document, []check.Subject, error) {
	fixed, changes, err := check.Fix(docs, subjects)
	if err != nil {
		return nil, nil, usage(err)
	}
	report := cmd.ErrOrStderr()
	for _, c := range changes {
		fmt.Fprintf(report, "%s: %s: %s\n", c.Where, c.Object, c.Text)
	}
	byFile := map[string][]manifest.Document{}
	for _, d := range fixed {
		byFile[d.File] = append(byFile[d.File], d)
	}
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		if file == manifest.StdinName || !slices.ContainsFunc(changes, func(c check.Change) bool { return c.File == file }) {
			continue
		}
		if err := rewrite(file, byFile[file]); err != nil {
			return nil, nil, usage(err)
		}
	}
	if len(changes) == 0 {
		return docs, subjects, nil
	}
	if slices.ContainsFunc(changes, func(c check.Change) bool { return c.File == manifest.StdinName }) {
		// There is no file to write to, and the report stands on the standard output.
		fmt.Fprintln(report, "the standard input cannot be written to: put these lines into your manifest")
		return docs, subjects, nil
	}
	subjects, err = check.Check(cmd.Context(), fixed, o)
	if err != nil {
		return nil, nil, usage(err)
	}
	return fixed, subjects, nil
}

// rewrite exchanges a file's contents, or leaves it as it was.
func rewrite(file string, docs []manifest.Document) error {
	file, err := filepath.EvalSymlinks(file) // the link stays one
	if err != nil {
		return err
	}
	before, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	after, err := manifest.Splice(before, docs)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".metamorph-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(after)
	err = errors.Join(err, tmp.Chmod(info.Mode()), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
