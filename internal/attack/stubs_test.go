package attack_test

func onServers() []attack { return nil }
