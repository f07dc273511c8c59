package bitbucketsim

// AddExample makes a small world to look around in: alice, bob and carol, who share the Premium workspace "acme"
// with the repository "rocket", where alice is administrator. Its branches are main, release/1.0 and
// feature/nozzle, which is one commit ahead of both.
func (s *Sim) AddExample() error {
	for _, name := range []string{"alice", "bob", "carol"} {
		if _, err := s.AddPerson(Person{Nickname: name}); err != nil {
			return err
		}
	}
	if _, err := s.AddWorkspace(Workspace{
		Slug: "acme", Name: "Acme", Premium: true, Owners: []string{"alice"}, Members: []string{"bob", "carol"},
	}); err != nil {
		return err
	}
	if _, err := s.AddRepository(Repository{
		Workspace: "acme", Slug: "rocket", Name: "Rocket", Description: "It flies.",
		Permissions: map[string]string{"bob": PermissionWrite, "carol": PermissionWrite},
		Files: map[string]string{
			"README.md":   "# Rocket\n\nIt flies.\n",
			"src/main.go": "package main\n\nfunc main() {\n\tlaunch()\n}\n",
		},
	}); err != nil {
		return err
	}
	if _, err := s.Push(Push{Repository: "acme/rocket", Branch: "release/1.0", Person: "alice"}); err != nil {
		return err
	}
	_, err := s.Push(Push{
		Repository: "acme/rocket", Branch: "feature/nozzle", Person: "alice", Message: "Add the nozzle",
		Files: map[string]string{"src/nozzle.go": "package main\n\nfunc launch() {\n\tignite()\n}\n"},
	})
	return err
}
