import { Link, Outlet } from "@tanstack/react-router";
import "./SettingsPage.css";

/** The settings: those of the workspace's integrations and people, and those of the person who is signed in. */
export function SettingsPage() {
  return (
    <div className="settings">
      <nav className="settings__nav" aria-label="Settings">
        <p className="settings__group">Integrations</p>
        <Link to="/settings/bitbucket">Bitbucket</Link>
        <Link to="/settings/tokens">API tokens</Link>
        <p className="settings__group">People</p>
        <Link to="/settings/keys">Keys of members</Link>
        <Link to="/settings/protection">Protection</Link>
        <p className="settings__group">You</p>
        <Link to="/settings/passkeys">Passkeys</Link>
      </nav>
      <div className="settings__page">
        <Outlet />
      </div>
    </div>
  );
}
