export function Dashboard() {
  return (
    <main>
      <h1>SignedApproval</h1>
    </main>
  );
}
