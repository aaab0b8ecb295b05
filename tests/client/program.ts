// A program against the types that are generated from docs/openapi.json: what it does must compile, and what is marked
// as an error must be one. It is compiled and never run.

import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Schemas = components["schemas"];

const client = createClient<paths>({ baseUrl: "https://firebackup.example", headers: { Authorization: "Bearer fb_…" } });

/** Compiles where both are the same type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(_: Same<A, B>): void {}

/** All of a list, page by page. */
export async function allProjects(): Promise<Schemas["Project"][]> {
    const found: Schemas["Project"][] = [];
    let cursor: string | null | undefined;
    do {
        const { data, error } = await client.GET("/api/v1/projects", {
            params: { query: { limit: 100, status: "connected", ...(cursor ? { cursor } : {}) } },
        });
        if (error) throw new Error(told(error));
        found.push(...data.data);
        same<typeof data.success, true>(true);
        same<typeof data.meta.total, number | null>(true);
        cursor = data.meta.cursor;
    } while (cursor);
    return found;
}

/** A backup that is started once, however often it is sent. */
export async function backUp(projectId: string): Promise<Schemas["BackupJob"]> {
    const { data, error, response } = await client.POST("/api/v1/backups", {
        params: { header: { "Idempotency-Key": "2026-01-01" } },
        body: { projectId, collections: ["users"], compression: "zstd:3" },
    });
    if (error) throw new Error(`${response.status}: ${told(error)}`);
    const job = data.data;
    same<typeof job.status, Schemas["JobStatus"]>(true);
    return job;
}

/** What a failure says. */
function told(error: Schemas["ErrorEnvelope"]): string {
    same<typeof error.success, false>(true);
    switch (error.error.code) {
        case "TOO_MANY_JOBS":
            return "later";
        case "VALIDATION_FAILED":
            return JSON.stringify(error.error.details ?? {});
        // @ts-expect-error: there is no such code
        case "NO_SUCH_CODE":
        default:
            return error.error.message;
    }
}

/** Everything else that a client does first. */
export async function others(): Promise<void> {
    const one = await client.GET("/api/v1/projects/{projectId}", { params: { path: { projectId: "proj_…" } } });
    same<NonNullable<typeof one.data>["data"], Schemas["Project"]>(true);

    const credentials = { type: "service_account", key: "{}" } as const;
    await client.POST("/api/v1/projects", { body: { name: "Shop", googleProject: "shop", credentials } });
    const consent = await client.GET("/api/v1/projects/oauth");
    same<NonNullable<typeof consent.data>["data"]["url"], string>(true);
    const granted = { type: "oauth", grant: "fbg_…" } as const;
    await client.POST("/api/v1/projects", { body: { name: "Shop", googleProject: "shop", credentials: granted } });
    const path = { projectId: "proj_…" };
    await client.POST("/api/v1/projects/{projectId}/collections/sync", { params: { path } });
    const seen = await client.GET("/api/v1/projects/{projectId}/collections", {
        params: { path, query: { database: "(default)", limit: 100 } },
    });
    same<NonNullable<typeof seen.data>["data"], Schemas["Collection"][]>(true);
    const databases = await client.GET("/api/v1/projects/{projectId}/databases", { params: { path } });
    same<NonNullable<typeof databases.data>["data"][number]["limits"], Schemas["DatabaseLimit"][]>(true);

    await client.POST("/api/v1/webhooks", {
        body: { name: "Told", url: "https://receiver.example/", events: ["backup.completed"] },
    });
    await client.POST("/api/v1/backups/restore", { body: { backupId: "bkp_…", dryRun: true, mode: "mirror" } });
    await client.GET("/health");
}

export async function wrong(): Promise<void> {
    // @ts-expect-error: there is no such route
    await client.GET("/api/v1/nonsense");
    // @ts-expect-error: the route knows no such method
    await client.DELETE("/api/v1/projects");
    // @ts-expect-error: the path's parameter is missing
    await client.GET("/api/v1/projects/{projectId}");
    // @ts-expect-error: a body is missing
    await client.POST("/api/v1/backups");
    // @ts-expect-error: a field that must be there is missing
    await client.POST("/api/v1/backups", { body: { collections: [] } });
    // @ts-expect-error: no such field is known
    const misspelt: Schemas["NewBackup"] = { projectId: "proj_…", colections: [] };
    await client.POST("/api/v1/backups", { body: misspelt });
    // @ts-expect-error: no such status is known
    await client.GET("/api/v1/projects", { params: { query: { status: "lost" } } });
    // @ts-expect-error: a limit is a number
    await client.GET("/api/v1/projects", { params: { query: { limit: "20" } } });
    // @ts-expect-error: no such mode is known
    await client.POST("/api/v1/backups/restore", { body: { backupId: "bkp_…", mode: "merge" } });
    // @ts-expect-error: no such event is known
    await client.POST("/api/v1/webhooks", { body: { name: "Told", url: "https://x.example/", events: ["BackupDone"] } });
    const listed = await client.GET("/api/v1/projects");
    // @ts-expect-error: nothing is there where it failed
    listed.data.data;
    // @ts-expect-error: a list is no thing
    listed.data?.data.id;
    // @ts-expect-error: pages may be uncounted
    listed.data?.meta.totalPages.toFixed();
}
