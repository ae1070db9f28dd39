package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

func newExplain() *cobra.Command {
	output := oneOf("text", "json")
	cmd := &cobra.Command{
		Use:   "explain [ANNOTATION|POLICY|CODE]",
		Short: "Explain the annotations, the policies, and the codes in messages",
		Long: `Without an argument: a table of all annotations. With one: everything about an annotation, about a policy, or what a
code in a message means and what to do. "policies" lists all built-in policies.`,
		Example: `  metamorph explain
  metamorph explain heap
  metamorph explain metamorph.dev/min-insync-replicas
  metamorph explain MM105
  metamorph explain MM301
  metamorph explain policies`,
		Args: cobra.MaximumNArgs(1),
		RunE: runs(func(cmd *cobra.Command, args []string) error {
			w, asJSON := cmd.OutOrStdout(), output.value == "json"
			if len(args) == 0 {
				return explainAll(w, asJSON)
			}
			return explainOne(w, asJSON, args[0])
		}),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return settings.Keys(""), cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().VarP(output, "output", "o", "text or json")
	return cmd
}

// annotation is a setting as -o json prints it.
type annotation struct {
	Annotation   string         `json:"annotation"`
	Roles        []setting.Role `json:"roles"`
	Meaning      string         `json:"meaning"`
	Allowed      string         `json:"allowed"`
	Example      string         `json:"example"`
	Default      string         `json:"default"`
	OnlyOnObject bool           `json:"onlyOnObject,omitempty"`
	Fixed        string         `json:"fixed,omitempty"`
	Replaces     string         `json:"replaces,omitempty"`
	Properties   []string       `json:"properties,omitempty"`
}

func describe(info setting.Info) annotation {
	roles := info.Roles
	if len(roles) == 0 {
		roles = setting.Roles
	}
	return annotation{
		Annotation: setting.Prefix + info.Key, Roles: roles, Meaning: info.Doc, Allowed: info.Allowed, Example: info.Example, Default: info.Rule,
		OnlyOnObject: info.Own, Fixed: info.Fixed, Replaces: info.Replaces, Properties: info.Properties,
	}
}

func explainAll(w io.Writer, asJSON bool) error {
	var all []annotation
	for _, key := range settings.Keys("") {
		d, _ := settings.Lookup(key)
		all = append(all, describe(d.Info()))
	}
	if asJSON {
		return printJSON(w, all)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ANNOTATION\tROLES\tDEFAULT\tMEANING")
	for _, a := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", a.Annotation, join(a.Roles), sentence(a.Default), sentence(a.Meaning))
	}
	return table.Flush()
}

func explainOne(w io.Writer, asJSON bool, name string) error {
	for _, c := range setting.Codes {
		if strings.EqualFold(string(c.Code), name) {
			return explainCode(w, asJSON, code{c.Code, c.Title, c.Help})
		}
	}
	key := strings.TrimPrefix(name, setting.Prefix)
	if slices.Contains(settings.Keys(""), key) {
		d, _ := settings.Lookup(key)
		return explainSetting(w, asJSON, describe(d.Info()))
	}
	if slices.Contains(settings.Written, key) {
		return usage(fmt.Errorf("%s%s is written by Metamorph, never by users", setting.Prefix, key))
	}
	set, err := policySet(nil, nil)
	if err != nil {
		return err
	}
	if strings.EqualFold(name, "policies") {
		return explainPolicies(w, asJSON, set.Policies)
	}
	for _, p := range set.Policies {
		if strings.EqualFold(p.Code, name) || p.Name == strings.ReplaceAll(name, "-", "_") {
			return explainPolicy(w, asJSON, p)
		}
	}
	near := settings.NearestKey(key, "")
	if near == "" {
		return usage(fmt.Errorf("%q is neither an annotation nor a policy nor a code; metamorph explain lists the annotations, metamorph explain policies the policies", name))
	}
	return usage(fmt.Errorf("%q is neither an annotation nor a policy nor a code; did you mean %s?", name, near))
}

func explainSetting(w io.Writer, asJSON bool, a annotation) error {
	if asJSON {
		return printJSON(w, a)
	}
	fmt.Fprintf(w, "%s\n\n%s\n\n", paint(w, bold, a.Annotation), a.Meaning)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, value)
		}
	}
	where := "the StatefulSet, its Namespace, or a profile"
	if a.OnlyOnObject {
		where = "the StatefulSet only"
	}
	row("Roles", join(a.Roles))
	row("Allowed", a.Allowed)
	row("Example", fmt.Sprintf("%s: %q", a.Annotation, a.Example))
	row("Default", a.Default)
	row("Written on", where)
	if a.Fixed != "" {
		row("After creation", "fixed; instead: "+a.Fixed)
	}
	row("Broker property", strings.Join(a.Properties, ", "))
	if a.Replaces != "" {
		row("Replaces", "the Terraform variable "+a.Replaces)
	}
	return table.Flush()
}

func explainPolicies(w io.Writer, asJSON bool, all []*policy.Policy) error {
	if asJSON {
		return printJSON(w, all)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CODE\tPOLICY\tACTION\tFINDS THAT")
	for _, p := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", p.Code, p.Name, p.Severity, p.Title)
	}
	return table.Flush()
}

func explainPolicy(w io.Writer, asJSON bool, p *policy.Policy) error {
	if asJSON {
		return printJSON(w, p)
	}
	fmt.Fprintf(w, "%s\n\n%s\n\n", paint(w, bold, p.Code+" "+p.Name+": "+p.Title), p.Why)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "What to do\t%s\n", p.Fix)
	action := p.Severity.String()
	if p.Warns && p.Severity > policy.Warn {
		action += "; some cases warn in any profile"
	}
	for _, name := range slices.Sorted(maps.Keys(p.Profiles)) {
		action += fmt.Sprintf("; %s in the profile %s", p.Profiles[name], name)
	}
	fmt.Fprintf(table, "Action\t%s\n", action)
	roles := strings.Join(p.Match.Roles, ", ")
	if roles == "" {
		roles = "all that are managed"
	}
	fmt.Fprintf(table, "Roles\t%s\n", roles)
	for i, o := range p.Match.Operations {
		name := ""
		if i == 0 {
			name = "Operations"
		}
		fmt.Fprintf(table, "%s\t%s\n", name, o)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Parameters)) {
		value, err := json.Marshal(p.Parameters[name].Default)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "Parameter\t%s: %s Default: %s\n", name, p.Parameters[name].Description, value)
	}
	return table.Flush()
}

// code is a code as -o json prints it.
type code struct {
	Code  setting.Code `json:"code"`
	Title string       `json:"title"`
	Help  string       `json:"help"`
}

func explainCode(w io.Writer, asJSON bool, c code) error {
	if asJSON {
		return printJSON(w, c)
	}
	_, err := fmt.Fprintf(w, "%s\n\n%s\n", paint(w, bold, string(c.Code)+": "+c.Title), c.Help)
	return err
}

func join(roles []setting.Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// sentence is a text's first one, without its full stop.
func sentence(text string) string {
	first, _, _ := strings.Cut(text, ". ")
	return strings.TrimSuffix(first, ".")
}
