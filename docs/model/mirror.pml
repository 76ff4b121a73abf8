/* A model of the mirror's protocol: design section 7, rules 1 to 10, as src/algorithm/mirror, src/metadata/assembly
 * and src/storage/mirrored.cc do it. README.md says what it covers, what not, and how it is run.
 *
 * N data nodes and WIT witnesses (0 or 1), NH heads (1 or 2), R regions (1 or 2), K writes of the client, F faults.
 * A region is one value: the number of the write that is in it. Heads act in atomic steps, one message each. Masks are
 * sets of nodes; those that hang on a region stand in arrays at [x*R+r]. Each feature and each fault has a macro:
 *   QUORUM   majority instead of none            GHOST   requests of old sessions that come late
 *   UNWR     regions begin unwritten (rule 10)   TORN    power cuts in the middle of a superblock
 *   MEMB     nodes leave the table and come in   DAMAGE  sectors of bitmaps that fail their checksum
 *   FORCE    how many starts by force             SLEPT   begins when head 0 serves, and is cut off from all but node 0
 *   GHOSTMETA (with GHOST) superblocks and bitmaps come late, too
 * -DT_x takes one rule away: each must give a counterexample. */
#ifndef N
#define N 2
#endif
#ifndef WIT
#define WIT 0
#endif
#ifndef NH
#define NH 1
#endif
#ifndef R
#define R 1
#endif
#ifndef K
#define K 2
#endif
#ifndef F
#define F 3
#endif
#ifndef QUORUM
#define QUORUM 0
#endif
#ifndef UNWR
#define UNWR 0
#endif
#ifndef MEMB
#define MEMB 0
#endif
#ifndef FORCE
#define FORCE 0
#endif
#ifndef GHOST
#define GHOST 0
#endif
#ifndef GHOSTMETA
#define GHOSTMETA 0
#endif
#ifndef SLEPT
#define SLEPT 0
#endif
#ifndef TORN
#define TORN 0
#endif
#ifndef DAMAGE
#define DAMAGE 0
#endif
#define V (N+WIT)
#define ALLN ((1<<N)-1)
#define ALLV ((1<<V)-1)
#define ALLR ((1<<R)-1)
#define AGES 12
#define B(n) (1<<(n))
#define IN(m,n) (((m)>>(n))&1)
#define SUB(a,b) (((a)&(~(b)))==0)
#define POP(m) (IN(m,0)+IN(m,1)+IN(m,2)+IN(m,3))

/* What is on the nodes. */
byte up = ALLV;			/* which are running */
byte age[4];			/* the age that a node holds; 0: blank, or damaged */
byte holder[4];			/* whose reservation; 0: nobody's */
byte d[V*R], v[V*R];		/* durable, and as it is read */
byte stale[V*R];		/* by region: the nodes that are stale, as this node has it */
byte intent[V];			/* sets of regions */
#if UNWR
byte unw[V];
#endif
#if DAMAGE
byte dmg[V];			/* regions whose sectors of intent and stale bits are damaged */
#endif
#if GHOST
byte gv[V], gr[V];		/* a write of an old session that may still come: value, region */
#endif
#if GHOSTMETA
byte gk[V], gx[V], gs[V];	/* a superblock or a sector of bitmaps: 1 age, 2 intents, 3 stale bits; what; region */
#endif
#if TORN
byte broken;			/* whose superblocks are damaged, both */
#endif
/* Ages: who is attached, the way there (a set of ages, itself included), who is in the table; and
 * whether anything was acknowledged in it. */
byte att[AGES];
short anc[AGES];
#if MEMB
byte tab[AGES];
#endif
#define SINCES (FORCE || (MEMB && NH==2))
#if SINCES
byte since[AGES];		/* how often it was forced, or the table changed, until then: votes_since */
#endif
#if SINCES && !FORCE
byte tables, conf = ALLV;	/* where heads look: what is taken out of the table is taken out of their configuration */
#define CONFIGURE conf=pT[h]
#else
#define CONFIGURE skip
#endif
#if FORCE
byte forced;
short said;			/* ages in which something was acknowledged */
#endif

/* What a head knows. */
byte link[2], mv[2], rs[2];	/* reachable; reservation lost; to be replayed to */
#if NH==2
byte ast[2];			/* claimed, and refused: went on with another head */
#endif
#ifdef T_CLAIMED
byte un[2];			/* takes part unclaimed */
#endif
byte st[2];			/* 0 down, 1 claims, 2 has its bits, 3 chooses the source */
byte cur[2], last[2], pend[2], pS[2], pdone[2], bound[2], sa[2];	/* ages: in force, last sent, being sent */
byte join[2], mcop[2];		/* joining; with their copy of the bits */
byte ws[2], wv[2], wr[2], wack[2], wsent[2];	/* the write under way */
byte fs[2], fdone[2];		/* the flush */
byte rz[2], rr[2];		/* the copy in hand: node + 1, region */
byte got[2], bi[2];
bool serv[2];
byte stl[2*R], sdone[2*R], him[2*R], kept[2*R], hv[2*R];
#if UNWR
byte wrt[2], fresh[2], udone[2*R];
#endif
#if MEMB
byte pT[2];
byte moves = MEMB;
#endif

/* The client, the faults, the checker. */
byte faults = F, nextv, flushed[R], owner;
bool fin;

c_decl {
	\#if MEMB
	\#define TABLE(a) now.tab[a]
	\#else
	\#define TABLE(a) ALLV
	\#endif
	\#if SINCES
	\#define SINCE(a) now.since[a]
	\#else
	\#define SINCE(a) 0
	\#endif
	\#define CANSTART (!now.st[Phead->h] && !now.fin && canstart(avail(Phead->h), 0))
	\#define CANFORCE (!now.st[Phead->h] && !now.fin && !canstart(avail(Phead->h), 0) && canstart(avail(Phead->h), 1))
}
c_code {
	static int pc(int m) { int c = 0; for (; m; m >>= 1) c += m & 1; return c; }
	/* metadata/sides.h: no age beside the way to `c` can have been in force: for each other newest age, those that
	 * went the other way where the two parted, and the votes not seen, are fewer than a majority */
	static int is_safe(int c, int *mx, int k, int seen, int absent, int maj) {
		int i, a, n, cnt;
		for (i = 0; i < k; i++) {
			int beside = now.anc[mx[i]] & ~now.anc[c], apart = 0;
			if (mx[i] == c) continue;
			for (a = 1; a < AGES; a++)
				if ((beside >> a & 1) && (now.anc[a] & ~now.anc[c]) == 1 << a) apart = a;
			if (!apart) return 0;
			for (cnt = 0, n = 0; n < V; n++) if ((seen >> n & 1) && now.age[n]) {
#ifdef T_SIDES			/* as the first model counted: the holders of its way alone, not where they parted */
				int on = now.anc[mx[i]] >> now.age[n] & 1, j;
				for (j = 0; j < k; j++) if (j != i && (now.anc[mx[j]] >> now.age[n] & 1)) on = 0;
				cnt += on;
#else
				cnt += now.anc[now.age[n]] >> apart & 1;
#endif
			}
			if (cnt + absent >= maj) return 0;
		}
		return 1;
	}
	static int is_source(int n, int a) {
		return n < N && now.age[n] && (now.att[a] >> n & 1) && (now.anc[a] >> now.age[n] & 1);
	}
	/* metadata/assembly.h: the age to start from with the nodes Q at hand; 0: it may not */
	static int canstart(int Q, int force) {
		int n, m, i, k = 0, mx[4], pick = 0, votes, absent, maj;
		for (n = 0; n < V; n++) if ((Q >> n & 1) && now.age[n]) {
			int a = now.age[n], top = 1;
			for (m = 0; m < V; m++)
				if ((Q >> m & 1) && now.age[m] && now.age[m] != a && (now.anc[now.age[m]] >> a & 1)) top = 0;
			for (i = 0; i < k; i++) if (mx[i] == a) top = 0;
			if (top) mx[k++] = a;
		}
		if (!k) return 0;
		if (k > 1) {
#ifdef T_DIVERGED		/* any of them will do */
			pick = mx[0];
#else
			if (!QUORUM) return 0;
			for (i = 1; i < k; i++) if (SINCE(mx[i]) != SINCE(mx[0])) return 0;
			votes = TABLE(mx[0]); absent = pc(votes & ~Q); maj = pc(votes) / 2 + 1;
			for (i = 0; i < k && !pick; i++) if (is_safe(mx[i], mx, k, Q & votes, absent, maj))
				for (n = 0; n < N; n++) if ((Q >> n & 1) && is_source(n, mx[i])) pick = mx[i];
			if (!pick) return 0;
#endif
		} else
			pick = mx[0];
		votes = TABLE(pick); maj = pc(votes) / 2 + 1;
		if (QUORUM && !force && pc(votes & Q) < maj) return 0;
		for (m = 0, n = 0; n < N; n++) if ((Q >> n & 1) && is_source(n, pick)) m |= 1 << n;
		if (!m) return 0;
#ifndef T_START			/* without quorum: every node that was attached in the newest age seen */
		if (!QUORUM && !force && (now.att[pick] & ~m)) return 0;
#endif
		return pick;
	}
	static int avail(int h) {
		int n, r = 0, o = 1 - h;
		for (n = 0; n < V; n++) if (
#if SINCES && !FORCE
			(now.conf >> n & 1) &&
#endif
			(now.up >> n & 1) && (now.link[h] >> n & 1)
#if TORN
			&& !(now.broken >> n & 1)
#endif
			&& !(now.holder[n] == o + 1 && now.st[o] && (now.link[o] >> n & 1))) r |= 1 << n;
		return r;
	}
	/* forget ages that nobody refers to, if another one stands for them: one that is on just the same ways */
	static void gc(void) {
		int a, b, n, ref = 0, again = 1;
		for (n = 0; n < V; n++) ref |= 1 << now.age[n];
#if GHOSTMETA
		for (n = 0; n < V; n++) if (now.gk[n] == 1) ref |= 1 << now.gx[n];
#endif
		for (n = 0; n < 2; n++) ref |= 1 << now.cur[n] | 1 << now.pend[n] | 1 << now.last[n];
		while (again) {
			again = 0;
			for (a = 1; a < AGES; a++) {
				int drop = 1, used = 0, by = 0;
				if (!now.anc[a] || (ref >> a & 1)) continue;
				for (n = 1; n < AGES; n++) if (n != a && now.anc[n] && (now.anc[n] >> a & 1)) used = 1;
				if (used) {
					drop = 0;
					for (b = 1; b < AGES && !drop; b++) {
						int same = now.anc[b] != 0;
						if (b == a) continue;
						for (n = 1; n < AGES; n++) if (n != a && now.anc[n]
							&& ((now.anc[n] >> a ^ now.anc[n] >> b) & 1)) same = 0;
						if (same) { drop = 1; by = b; }
					}
				}
				if (!drop) continue;
#if FORCE
				if (now.said >> a & 1) { now.said &= ~(1 << a); if (by) now.said |= 1 << by; }
#endif
#if SINCES
				now.since[a] = 0;
#endif
#if MEMB
				now.tab[a] = 0;
#endif
				now.att[a] = now.anc[a] = 0;
				for (n = 1; n < AGES; n++) now.anc[n] &= ~(1 << a);
				again = 1;
			}
		}
	}
	static void newage(int h) {
		int a;
		gc();
		for (a = 1; a < AGES && now.anc[a]; a++) ;
		if (a == AGES) { puts("AGES EXHAUSTED"); exit(3); }
		now.att[a] = now.pS[h]; now.anc[a] = now.anc[now.last[h]] | 1 << a;
#if MEMB
		now.tab[a] = now.pT[h];
#endif
#if SINCES
		now.since[a] = now.since[now.last[h]];
#endif
#if SINCES && !FORCE
		if (now.pT[h] != now.tab[now.last[h]]) now.since[a] = ++now.tables;
#endif
#if FORCE
		if (now.bi[h] == 99) { now.since[a] = now.forced; now.bi[h] = 0; }
#endif
		now.pend[h] = now.last[h] = a;
	}
	static void wipe(int h) {	/* the head's memory is gone */
		int r;
		now.st[h] = now.cur[h] = now.last[h] = now.pend[h] = now.pS[h] = now.pdone[h] = now.bound[h] = now.sa[h] = 0;
		now.join[h] = now.mcop[h] = now.ws[h] = now.wv[h] = now.wr[h] = now.wack[h] = now.wsent[h] = 0;
		now.fs[h] = now.fdone[h] = now.rz[h] = now.rr[h] = now.got[h] = now.bi[h] = now.serv[h] = now.mv[h] = now.rs[h] = 0;
		for (r = h * R; r < h * R + R; r++) {
			now.stl[r] = now.sdone[r] = now.him[r] = now.kept[r] = now.hv[r] = 0;
#if UNWR
			now.udone[r] = 0;
#endif
		}
#if UNWR
		now.wrt[h] = now.fresh[h] = 0;
#endif
#if MEMB
		now.pT[h] = 0;
#endif
#if NH==2
		now.ast[h] = 0;
#endif
#ifdef T_CLAIMED
		now.un[h] = 0;
#endif
		gc();
	}
	static void release(int h) {
		int n;
		for (n = 0; n < V; n++) if (now.holder[n] == h + 1 && (now.up >> n & 1) && (now.link[h] >> n & 1)) now.holder[n] = 0;
	}
}

#define o (1-h)
#define X(r) (h*R+(r))
#if TORN
#define WHOLE(n) (!IN(broken,n))
#else
#define WHOLE(n) true
#endif
#define LNK(h,n) (IN(up,n) && IN(link[h],n) && WHOLE(n))
#ifdef T_RESERV		/* nobody is kept from anything */
#define OWN(h,n) LNK(h,n)
#else
#ifdef T_CLAIMED
#define OWN(h,n) (LNK(h,n) && (holder[n]==h+1 || (holder[n]==0 && IN(un[h],n))) && !IN(mv[h],n))
#else
#define OWN(h,n) (LNK(h,n) && holder[n]==h+1 && !IN(mv[h],n))
#endif
#endif
#ifdef T_REPLAY
#define RCH(h,n) OWN(h,n)
#else
#define RCH(h,n) (OWN(h,n) && !IN(rs[h],n))
#endif
#define OWNM (OWN(h,0)+2*OWN(h,1)+4*OWN(h,2)+8*OWN(h,3))
#define CLM(h,n) (LNK(h,n) && !(holder[n]==o+1 && st[o]!=0 && IN(link[o],n)))
/* a claim, and a new session, wait until all that is older is over: it has landed, or was lost before (WAKES; a d_step
 * takes the first of several ways, so there is no choice here) */
#if GHOST && !defined(T_GHOST)
#define SESSION(n) if :: gv[n] -> v[(n)*R+gr[n]]=gv[n]; gv[n]=0; gr[n]=0 :: else fi; SESSIONMETA(n)
#else
#define SESSION(n) skip
#endif
#if GHOSTMETA
#define LANDS(n) if :: gk[n]==1 -> age[n]=gx[n] :: gk[n]==2 -> intent[n]=gx[n] :: gk[n]==3 -> stale[(n)*R+gs[n]]=gx[n] :: else fi
#define NOGHOSTMETA(n) gk[n]=0; gx[n]=0; gs[n]=0
#define SESSIONMETA(n) if :: gk[n] -> LANDS(n); NOGHOSTMETA(n); c_code { gc(); } :: else fi
#else
#define NOGHOSTMETA(n) skip
#define SESSIONMETA(n) skip
#endif
#if NH==2
#define NOTASTRAY(n) ast[h]=ast[h]&~B(n)
#define ISASTRAY(n) IN(ast[h],n)
#else
#define NOTASTRAY(n) skip
#define ISASTRAY(n) false
#endif
#define CLAIM(n) if :: holder[n]==o+1 && st[o]!=0 -> mv[o]=mv[o]|B(n) :: else fi; holder[n]=h+1; mv[h]=mv[h]&~B(n)
#define BM(m,S) (!IN(bound[h],m) || ((m)&(S)))
#ifdef T_BIND
#define BOUNDOK(S) true
#else
#define BOUNDOK(S) (BM(1,S)&&BM(2,S)&&BM(3,S)&&BM(4,S)&&BM(5,S)&&BM(6,S)&&BM(7,S))
#endif
#if MEMB
#define TAB tab[cur[h]]
#define PTAB pT[h]
#define SAMETABLE pT[h]=tab[cur[h]]
#else
#define TAB ALLV
#define PTAB ALLV
#define SAMETABLE skip
#endif
#define MEM (TAB&ALLN)
#define MAJ(t) (POP(t)/2+1)
#define ATT att[cur[h]]
#ifdef T_SENT		/* attached: named in the age in force alone */
#define NAMED ATT
#else
#define NAMED (ATT|sa[h])
#endif
#define RD(r) (NAMED|(join[h]&~stl[X(r)]))
#ifdef T_STALEREAD	/* read where it is stale */
#define READERS(r) (NAMED|join[h])
#else
#define READERS(r) RD(r)
#endif
#define TK(r) (RD(r)|((rz[h]!=0 && rr[h]==(r))*(1<<(rz[h]+(rz[h]==0)-1))))
#ifdef T_INTENT
#define IREQ 0
#else
#ifdef T_COPYINTENT	/* intents are not set on nodes that have their copy of the bits already */
#define IREQ NAMED
#else
#define IREQ (NAMED|mcop[h])
#endif
#endif
#ifdef T_INFORCE	/* a change is acknowledged although the age without a node is not in force yet */
#define ACKERS(r) ((pS[h] -> pS[h] : NAMED)|(join[h]&~stl[X(r)]))
#else
#define ACKERS(r) TK(r)
#endif
#define UNSETTLED(r) (kept[X(r)]!=0 || (ws[h]==2 && wr[h]==(r)))
#define SETSTL(r,m) if :: SUB(m,stl[X(r)]) :: else -> stl[X(r)]=stl[X(r)]|(m); sdone[X(r)]=0 fi
#ifdef T_MARK		/* nobody is made stale by a change of age */
#define MARK(S) skip
#define CRASHSTALE 0
#else
#define MARK1(r,S) if :: UNSETTLED(r) -> SETSTL(r,ALLN&~(S)) :: else fi
#if R==2
#define MARK(S) MARK1(0,S); MARK1(1,S)
#else
#define MARK(S) MARK1(0,S)
#endif
#define CRASHSTALE (ALLN&~pS[h])
#endif
#ifdef T_STALE
#define STALEFIRST true
#else
#if R==2
#define STALEFIRST (SUB(pS[h],sdone[X(0)])&&SUB(pS[h],sdone[X(1)]))
#else
#define STALEFIRST SUB(pS[h],sdone[X(0)])
#endif
#endif
#ifdef T_ORDER
#define ORDER(n) true
#else
#define ORDER(n) (IN(ATT&pS[h],n) || (SUB(ATT&pS[h],pdone[h]) && (IN(pS[h],n) || SUB(pS[h],pdone[h]))))
#endif
#ifdef T_QUORUM
#define VOTES true
#else
/* where the votes change it takes a majority of those before, too */
#ifdef T_VOTESBEFORE	/* of the new votes alone */
#define VOTES (!QUORUM || POP(pdone[h]&PTAB)>=MAJ(PTAB))
#else
#define VOTES (!QUORUM || (POP(pdone[h]&PTAB)>=MAJ(PTAB) && (!MEMB || cur[h]==0 || POP(pdone[h]&TAB)>=MAJ(TAB))))
#endif
#endif
#if R==2
#define ANYSTL(S) ((S)&(stl[X(0)]|stl[X(1)]))
#define ALLSDONE(S) (SUB(S,sdone[X(0)])&&SUB(S,sdone[X(1)]))
#define ANYSTALE (stl[X(0)]|stl[X(1)])
#else
#define ANYSTL(S) ((S)&stl[X(0)])
#define ALLSDONE(S) SUB(S,sdone[X(0)])
#define ANYSTALE stl[X(0)]
#endif
#ifdef T_LAST		/* the last attached node is left out, whoever is joining */
#define BADSTL (IN(pS[h]&ATT,0)+IN(pS[h]&ATT,1)+IN(pS[h]&ATT,2)!=0 && ANYSTL(pS[h]))
#define LASTGOES \
	:: d_step { serv[h] && pS[h]==0 && !(NAMED&OWNM) && (join[h]&OWNM) -> pS[h]=join[h]&OWNM; printf("h%d detaches the last, att %d\n",h,pS[h]); SAMETABLE; pend[h]=0; pdone[h]=0 }
#else
#define BADSTL ANYSTL(pS[h])
#define LASTGOES
#endif
#ifdef T_META		/* attached before the bits are on it */
#define READY(n) (IN(join[h]&~ANYSTALE,n) && age[n]!=0)
#else
#define READY(n) (IN(mcop[h]&join[h]&~ANYSTALE,n) && age[n]!=0)
#endif
#ifdef T_VOID		/* an age that is not sent yet is not given up when the node that it would attach goes */
#define GIVEUP(n) skip
#else
#define GIVEUP(n) if :: pend[h]==0 && IN(pS[h],n) -> pS[h]=0 :: else fi
#endif
#define LOSE(n) faults--; link[h]=link[h]&~B(n)		/* applied, the answer is lost */
#define WRT(n) v[(n)*R+wr[h]]=wv[h]; kept[X(wr[h])]=kept[X(wr[h])]|B(n); wsent[h]=wsent[h]|B(n)
#define SND(n) if :: pend[h]==0 -> c_code { newage(Phead->h); } :: else fi; \
	bound[h]=bound[h]|B(pS[h]); sa[h]=sa[h]|pS[h]; age[n]=pend[h]; c_code { gc(); }
#define CANSND(n) (st[h]==2 && pS[h]!=0 && IN(PTAB,n) && STALEFIRST && !IN(pdone[h],n) && RCH(h,n) && ORDER(n) && !BADSTL && !ISASTRAY(n) && (IN(pS[h],n) || (age[n]!=0 && ADMITS(n))))
#ifdef T_DRAIN		/* copied while a change is under way there */
#define QUIET(r) true
#else
#define QUIET(r) !(ws[h]!=0 && wr[h]==(r))
#endif
#if FORCE
#define SAY said=said|(1<<cur[h])
#define OWNER (forced || owner==h+1)
#define ALLOWED(n) ((anc[age[n]]&~anc[last[h]]&said)==0)
#else
#define SAY skip
#define OWNER (owner==h+1)
#define ALLOWED(n) true
#endif
#if SINCES
#define SINCESAME(n) (since[age[n]]==since[last[h]])
#else
#define SINCESAME(n) true
#endif
#if UNWR
#define UDONE(r) (!IN(fresh[h],r) && (!IN(wrt[h],r) || SUB(UREQ,udone[X(r)])))
#ifdef T_COPYWRITTEN	/* a flush of a first write does not wait for nodes that have their copy of the bits */
#define UREQ NAMED
#else
#ifdef T_WRITTEN	/* nor for anybody */
#define UREQ 0
#else
#define UREQ (NAMED|mcop[h])
#endif
#endif
#define ISUNW(r) (!IN(wrt[h],r) && !IN(fresh[h],r))
#ifdef T_UNWFLUSH	/* the cleared bit is written before the data is flushed */
#define FRESHNOW wrt[h]=wrt[h]|B(wr[h]); udone[X(wr[h])]=0
#else
#define FRESHNOW fresh[h]=fresh[h]|B(wr[h])
#endif
#define WROTE if :: ISUNW(wr[h]) -> FRESHNOW :: else fi
#define FLUSHED1(r) if :: IN(fresh[h],r) -> fresh[h]=fresh[h]&~B(r); wrt[h]=wrt[h]|B(r); udone[X(r)]=0 :: else fi
#define UNWOF(n,r) IN(unw[n],r)
#else
#define UDONE(r) true
#define ISUNW(r) false
#define WROTE skip
#define FLUSHED1(r) skip
#define UNWOF(n,r) 0
#endif
#if R==2
#define EACH(M) M(0); M(1)
#define BOTH(M) (M(0) && M(1))
#else
#define EACH(M) M(0)
#define BOTH(M) M(0)
#endif
#if DAMAGE
#define DMG(n) dmg[n]
#define MEND(n,r) dmg[n]=dmg[n]&~B(r)
#else
#define DMG(n) 0
#define MEND(n,r) skip
#endif
#ifdef T_DAMAGE		/* what is damaged counts as clear */
#define INTENT(n,r) IN(intent[n]&~DMG(n),r)
#define STALEOF(n,r) (IN(DMG(n),r) -> 0 : stale[(n)*R+(r)])
#else
#define INTENT(n,r) IN(intent[n]|DMG(n),r)
#define STALEOF(n,r) (IN(DMG(n),r) -> ALLN : stale[(n)*R+(r)])
#endif
#ifdef T_CLEARSTALE	/* an intent is cleared before it is durable who is stale there */
#define STALEDURABLE(r) true
#else
#define STALEDURABLE(r) SUB(NAMED,sdone[X(r)])
#endif
#ifdef T_CLEAR		/* ... and before the change is flushed everywhere */
#define CLEAN(r) true
#else
#define CLEAN(r) (kept[X(r)]==0)
#endif
#ifdef T_JOINERGONE	/* a joining node that goes is stale only in what is under way */
#define JSTALE(n,r) (ws[h]==2 && wr[h]==(r))
#else
#define JSTALE(n,r) ((ws[h]==2 && wr[h]==(r)) || IN(kept[X(r)],n))
#endif
#ifdef T_OWNINTENT
#define OWNINTENT(n,r) false
#else
#define OWNINTENT(n,r) INTENT(n,r)
#endif
#ifdef T_RESYNCFLUSH
#define RESYNCFLUSH false
#else
#define RESYNCFLUSH true
#endif
#ifdef T_REPLAY
#define REPLAY false
#else
#define REPLAY true
#endif
#ifdef T_STARTFLUSH
#define STARTFLUSH false
#else
#define STARTFLUSH true
#endif
#ifdef T_ONESOURCE	/* all attached nodes go on as attached after a crash */
#define SOURCES(n) pS[h]=ATT&got[h]
#else
#define SOURCES(n) pS[h]=B(n)
#endif
#ifdef T_ASTRAY		/* a node that went another way is stale in no more than its own intents */
#define ASTRAY(n) false
#else
#define ASTRAY(n) (!IN(anc[last[h]],age[n]))
#endif
#ifdef T_SLOT		/* a node that comes into the table is not stale before, durably */
#define SLOT(n) skip
#define NEWCOMER(n) true
#else
#define NEWCOMER(n) (age[n]!=0 || ALLSDONE(NAMED))
#define SLOT(n) SLOT1(n)
#if R==2
#define SLOT1(n) stl[X(0)]=stl[X(0)]|B(n); sdone[X(0)]=0; stl[X(1)]=stl[X(1)]|B(n); sdone[X(1)]=0
#else
#define SLOT1(n) stl[X(0)]=stl[X(0)]|B(n); sdone[X(0)]=0
#endif
#endif

/* admission (metadata/assembly.h, admit): 1 joins. Blank: it was put into the table. */
#define COUNTS(n) (QUORUM && SINCESAME(n))
#ifdef T_REFUSE		/* what diverged is taken in, whoever has gone its way */
#define ADMITS(n) true
#else
#define ADMITS(n) (age[n]==0 || IN(anc[last[h]],age[n]) || (!IN(anc[age[n]],last[h]) && COUNTS(n)))
#endif

/* Joining::judge: that a side that is left behind can't have been in force is true of a head that nobody replaced */
#ifdef T_JUDGELEASE
#define JUDGED(n) ADMITS(n)
#else
#define JUDGED(n) (ADMITS(n) && (age[n]==0 || IN(anc[last[h]],age[n]) || !COUNTS(n) || LEASEBUT(n)))
#endif
/* another head had it, and let it go: it is claimed before it is looked at, and stays so if it is refused */
#if NH==2
#define REFUSED(n,c) :: d_step { serv[h] && IN(TAB,n) && (c) && CLM(h,n) && !JUDGED(n) && !(OWN(h,n) && ISASTRAY(n)) -> \
	printf("h%d claims n%d, and refuses it\n",h,n); SESSION(n); CLAIM(n); ast[h]=ast[h]|B(n) }
#else
#define REFUSED(n,c)
#endif

#if GHOST
#define NOGHOST(n) gv[n]=0; gr[n]=0; NOGHOSTMETA(n)
#else
#define NOGHOST(n) skip
#endif
#if R==2
#define DROPPED(n) v[(n)*R]=d[(n)*R]; v[(n)*R+1]=d[(n)*R+1]; NOGHOST(n)
#else
#define DROPPED(n) v[n]=d[n]; NOGHOST(n)
#endif
/* what concerns every vote */
#define VOTE(n) \
:: d_step { CANSND(n) -> printf("h%d age to n%d: att %d\n",h,n,pS[h]); SND(n); pdone[h]=pdone[h]|B(n) } \
:: d_step { CANSND(n) && faults -> printf("h%d age to n%d: att %d, answer lost\n",h,n,pS[h]); SND(n); LOSE(n) } \
:: d_step { serv[h] && pS[h]==0 && age[n]!=cur[h] && IN(TAB,n) && (n>=N || IN(join[h],n)) && RCH(h,n) && !ISASTRAY(n) && NEWCOMER(n) -> age[n]=cur[h]; c_code { gc(); } } \
LATEMETA(n) \
TEAR(n)

#if GHOSTMETA	/* the link breaks while a superblock is on its way */
#define LATEMETA(n) \
:: d_step { CANSND(n) && faults && gk[n]==0 -> printf("h%d age to n%d: att %d, is stuck\n",h,n,pS[h]); \
	if :: pend[h]==0 -> c_code { newage(Phead->h); } :: else fi; \
	bound[h]=bound[h]|B(pS[h]); sa[h]=sa[h]|pS[h]; gk[n]=1; gx[n]=pend[h]; LOSE(n); c_code { gc(); } }
#define LATEBITS(n,r) \
:: d_step { ws[h]==1 && wr[h]==r && IN(IREQ&~him[X(r)],n) && RCH(h,n) && faults && gk[n]==0 -> printf("h%d intent r%d to n%d is stuck\n",h,r,n); \
	gk[n]=2; gx[n]=intent[n]|B(r); LOSE(n) } \
:: d_step { serv[h] && !(ws[h]!=0 && wr[h]==r) && CLEAN(r) && IN(him[X(r)],n) && STALEDURABLE(r) && RCH(h,n) && faults && gk[n]==0 -> \
	printf("h%d cleared intent r%d to n%d is stuck\n",h,r,n); gk[n]=2; gx[n]=intent[n]&~B(r); him[X(r)]=him[X(r)]&~B(n); LOSE(n) } \
:: d_step { st[h]==2 && IN((serv[h] -> NAMED|mcop[h]|pS[h] : pS[h])&~sdone[X(r)],n) && RCH(h,n) && faults && gk[n]==0 -> \
	printf("h%d stale bits r%d %d to n%d are stuck\n",h,r,stl[X(r)],n); gk[n]=3; gx[n]=stl[X(r)]; gs[n]=r; LOSE(n) }
#else
#define LATEMETA(n)
#define LATEBITS(n,r)
#endif
#if TORN
#define TEAR1(n,HELD_AGE) \
:: d_step { CANSND(n) && faults -> printf("n%d loses power while its superblock is written: att %d\n",n,pS[h]); \
	if :: pend[h]==0 -> c_code { newage(Phead->h); } :: else fi; \
	bound[h]=bound[h]|B(pS[h]); sa[h]=sa[h]|pS[h]; HELD_AGE; faults--; up=up&~B(n); DROPPED(n); rs[h]=rs[h]|(B(n)&ALLN); c_code { gc(); } }
#ifdef T_COPIES		/* one superblock instead of two, one after the other */
#define TEAR(n) TEAR1(n,broken=broken|B(n))
#else
#define TEAR(n) TEAR1(n,skip) TEAR1(n,age[n]=pend[h])
#endif
#else
#define TEAR(n)
#endif

/* what concerns a region on a data node */
#define COPY(n,r,s) \
:: d_step { serv[h] && n!=s && rz[h]==0 && QUIET(r) && IN(join[h]&stl[X(r)]&~NAMED,n) && RCH(h,n) && RCH(h,s) && IN(ATT&~stl[X(r)],s) -> \
	printf("h%d copy r%d n%d to n%d\n",h,r,s,n); \
	if :: ISUNW(r) :: else -> v[(n)*R+(r)]=v[(s)*R+(r)] fi; rz[h]=n+1; rr[h]=r }
#define PART(n,r) \
:: d_step { ws[h]==1 && wr[h]==r && IN(IREQ&~him[X(r)],n) && RCH(h,n) -> printf("h%d intent r%d n%d\n",h,r,n); \
	intent[n]=intent[n]|B(r); MEND(n,r); him[X(r)]=him[X(r)]|B(n) } \
:: d_step { serv[h] && IN(kept[X(r)]&~TK(r),n) -> kept[X(r)]=kept[X(r)]&~B(n); SETSTL(r,B(n)) } \
:: d_step { serv[h] && !(ws[h]!=0 && wr[h]==r) && CLEAN(r) && IN(him[X(r)],n) && STALEDURABLE(r) && RCH(h,n) -> \
	printf("h%d intent r%d cleared n%d\n",h,r,n); intent[n]=intent[n]&~B(r); MEND(n,r); him[X(r)]=him[X(r)]&~B(n) } \
:: d_step { st[h]==2 && IN((serv[h] -> NAMED|mcop[h]|pS[h] : pS[h])&~sdone[X(r)],n) && RCH(h,n) -> \
	printf("h%d stale bits r%d %d n%d\n",h,r,stl[X(r)],n); stale[(n)*R+(r)]=stl[X(r)]; sdone[X(r)]=sdone[X(r)]|B(n); REWRITE(n,r) } \
COPY(n,r,0) COPY(n,r,1) COPY2(n,r) \
:: d_step { rz[h]==n+1 && rr[h]==r && RCH(h,n) -> printf("h%d n%d copied r%d\n",h,n,r); \
	if :: RESYNCFLUSH -> d[(n)*R+(r)]=v[(n)*R+(r)] :: else fi; stl[X(r)]=stl[X(r)]&~B(n); sdone[X(r)]=0; rz[h]=0; rr[h]=0 } \
:: d_step { serv[h] && IN(READERS(r),n) && RCH(h,n) && v[(n)*R+(r)]!=hv[X(r)] && !ISUNW(r) && !(ws[h]==2 && wr[h]==r && IN(wsent[h],n) && v[(n)*R+(r)]==wv[h]) -> \
	printf("P2: n%d would serve %d in r%d, not %d\n",n,v[(n)*R+(r)],r,hv[X(r)]); assert(false) } \
LATEBITS(n,r) \
UNWRITTEN(n,r)
/* one sector holds the intent and one the stale bits: writing either mends the other one's damage here, which is
 * modelled as one: so it is written whole */
#if DAMAGE
#define REWRITE(n,r) if :: IN(dmg[n],r) -> MEND(n,r); if :: IN(him[X(r)],n) -> intent[n]=intent[n]|B(r) :: else -> intent[n]=intent[n]|B(r); him[X(r)]=him[X(r)]|B(n) fi :: else fi
#else
#define REWRITE(n,r) skip
#endif
#if UNWR
#define UNWRITTEN(n,r) \
:: d_step { serv[h] && IN(wrt[h],r) && IN((NAMED|mcop[h])&~udone[X(r)],n) && RCH(h,n) -> printf("h%d r%d written n%d\n",h,r,n); \
	unw[n]=unw[n]&~B(r); udone[X(r)]=udone[X(r)]|B(n) }
#define COPYUNW(n) unw[n]=ALLR&~wrt[h]; EACHU(n)
#if R==2
#define EACHU(n) if :: IN(wrt[h],0) -> udone[X(0)]=udone[X(0)]|B(n) :: else fi; if :: IN(wrt[h],1) -> udone[X(1)]=udone[X(1)]|B(n) :: else fi
#else
#define EACHU(n) if :: IN(wrt[h],0) -> udone[X(0)]=udone[X(0)]|B(n) :: else fi
#endif
#define LOADUNW(n) wrt[h]=ALLR&~unw[n]
#else
#define UNWRITTEN(n,r)
#define COPYUNW(n) skip
#define LOADUNW(n) skip
#endif
#if N==3
#define COPY2(n,r) COPY(n,r,2)
#else
#define COPY2(n,r)
#endif
#if R==2
#define PARTS(n) PART(n,0) PART(n,1)
#else
#define PARTS(n) PART(n,0)
#endif

/* per region, for what follows */
#define GONE1(r) if :: JSTALE(gn,r) -> SETSTL(r,B(gn)) :: else fi; kept[X(r)]=kept[X(r)]&~B(gn); him[X(r)]=him[X(r)]&~B(gn)
#define OWN1(r) if :: age[gn]==0 || OWNINTENT(gn,r) || ASTRAY(gn) -> SETSTL(r,B(gn)) :: else fi
#define COPY1(r) stale[gn*R+r]=stl[X(r)]; sdone[X(r)]=sdone[X(r)]|B(gn); MEND(gn,r); \
	if :: him[X(r)]&ATT -> intent[gn]=intent[gn]|B(r); him[X(r)]=him[X(r)]|B(gn) :: else -> intent[gn]=intent[gn]&~B(r) fi
#define REPLAY1(r) if :: IN(kept[X(r)],gn) && REPLAY -> v[gn*R+r]=((IN(wsent[h],gn) && ws[h]==2 && wr[h]==r) -> wv[h] : hv[X(r)]) :: else fi
#define FLUSH1(r) d[gn*R+r]=v[gn*R+r]; kept[X(r)]=kept[X(r)]&~B(gn)
#define LOAD1(r) stl[X(r)]=LSTALE(r)&~pS[h]; sdone[X(r)]=0; \
	if :: LINTENT(r) -> stl[X(r)]=stl[X(r)]|CRASHSTALE; him[X(r)]=B(gn) :: else fi; \
	if :: STARTFLUSH -> d[gn*R+r]=v[gn*R+r] :: else fi; hv[X(r)]=(UNWOF(gn,r) -> 0 : v[gn*R+r])
#if DAMAGE	/* what is damaged is taken from another source, if there is one where it is not */
#define OTHER(r) (GOODAT(0,r) -> 0 : (GOODAT(1,r) -> 1 : (N==3 && GOODAT(N-1,r) -> N-1 : gn)))
#define GOODAT(n,r) (n!=gn && CHOOSE(n) && !IN(dmg[n],r))
#define LSTALE(r) STALEOF((IN(dmg[gn],r) -> OTHER(r) : gn),r)
#define LINTENT(r) INTENT((IN(dmg[gn],r) -> OTHER(r) : gn),r)
#else
#define LSTALE(r) STALEOF(gn,r)
#define LINTENT(r) INTENT(gn,r)
#endif

#define NODE(n) \
:: d_step { ws[h]==2 && IN(TK(wr[h])&~wack[h],n) && RCH(h,n) -> printf("h%d write %d r%d n%d\n",h,wv[h],wr[h],n); WRT(n); wack[h]=wack[h]|B(n) } \
:: d_step { ws[h]==2 && IN(TK(wr[h])&~wack[h],n) && RCH(h,n) && faults -> printf("h%d write %d r%d n%d, answer lost\n",h,wv[h],wr[h],n); WRT(n); LOSE(n) } \
LATE(n) \
:: d_step { fs[h]==1 && IN(FTK&~fdone[h],n) && RCH(h,n) -> gn=n; printf("h%d flush n%d\n",h,n); EACH(FLUSH1); fdone[h]=fdone[h]|B(n); gn=0 } \
PARTS(n) \
:: d_step { serv[h] && IN(join[h],n) && !OWN(h,n) && !IN(NAMED,n) -> gn=n; printf("h%d joining n%d gone\n",h,n); \
	EACH(GONE1); \
	join[h]=join[h]&~B(n); mcop[h]=mcop[h]&~B(n); wack[h]=wack[h]&~B(n); wsent[h]=wsent[h]&~B(n); \
	if :: rz[h]==n+1 -> rz[h]=0; rr[h]=0 :: else fi; GIVEUP(n); gn=0 } \
:: d_step { serv[h] && IN(TAB,n) && (pS[h]==0 || IN(PTAB,n)) && !IN(NAMED|pS[h]|join[h],n) && CLM(h,n) && !KEPT(n) && JUDGED(n) -> gn=n; printf("h%d joins n%d\n",h,n); SESSION(n); CLAIM(n); NOTASTRAY(n); \
	assert(ALLOWED(n)); /* what was acknowledged elsewhere is not overwritten */ \
	assert(QUORUM || FORCE || age[n]==0 || IN(anc[last[h]],age[n])); /* nothing diverges without --force */ \
	rs[h]=rs[h]&~B(n); wack[h]=wack[h]&~B(n); wsent[h]=wsent[h]&~B(n); join[h]=join[h]|B(n); fdone[h]=fdone[h]&~B(n); \
	EACH(OWN1); gn=0 } \
REFUSED(n,(pS[h]==0 || IN(PTAB,n)) && !IN(NAMED|pS[h]|join[h],n) && !KEPT(n)) \
:: d_step { serv[h] && pS[h]==0 && IN(join[h]&~ANYSTALE&~mcop[h],n) && ALLSDONE(ATT) && RCH(h,n) -> gn=n; \
	printf("h%d metadata to n%d\n",h,n); mcop[h]=mcop[h]|B(n); EACH(COPY1); COPYUNW(n); gn=0 } \
:: d_step { serv[h] && pS[h]==0 && READY(n) && RCH(h,n) -> pS[h]=ATT|B(n); SAMETABLE; pend[h]=0; pdone[h]=0; MARK(pS[h]) } \
:: d_step { st[h]==2 && IN(rs[h],n) && OWN(h,n) -> gn=n; printf("h%d replays n%d\n",h,n); rs[h]=rs[h]&~B(n); \
	EACH(REPLAY1); if :: rz[h]==n+1 -> rz[h]=0; rr[h]=0 :: else fi; gn=0 } \
:: d_step { st[h]==3 && CHOOSE(n) -> gn=n; printf("h%d assembles with %d from n%d\n",h,got[h],n); st[h]=2; bound[h]=B(ATT); sa[h]=0; SOURCES(n); SAMETABLE; \
	EACH(LOAD1); LOADUNW(n); got[h]=0; if :: bi[h]!=99 -> bi[h]=0 :: else fi; gn=0; c_code { gc(); } } \
MEMBER(n)
#if R==2
#define FTK (TK(0)|TK(1))
#define KEPT(n) IN(kept[X(0)]|kept[X(1)],n)
#else
#define FTK TK(0)
#define KEPT(n) IN(kept[X(0)],n)
#endif
#if GHOST	/* the link breaks while the write is on its way: it may come as long as the old session is there */
#define LATE(n) \
:: d_step { ws[h]==2 && IN(TK(wr[h])&~wack[h],n) && RCH(h,n) && faults && gv[n]==0 -> printf("h%d write %d r%d to n%d is stuck\n",h,wv[h],wr[h],n); \
	gv[n]=wv[h]; gr[n]=wr[h]; kept[X(wr[h])]=kept[X(wr[h])]|B(n); wsent[h]=wsent[h]|B(n); LOSE(n) }
#else
#define LATE(n)
#endif
#if MEMB	/* who is in the table: one at a time; not while it is attached */
#define MEMBER(n) \
:: d_step { serv[h] && pS[h]==0 && moves && IN(TAB,n) && !IN(NAMED|join[h],n) && POP(MEM)>1 -> \
	printf("h%d takes n%d out of the table\n",h,n); moves--; pS[h]=ATT; pT[h]=TAB&~B(n); pend[h]=0; pdone[h]=0; MARK(pS[h]) } \
:: d_step { serv[h] && pS[h]==0 && !IN(TAB,n) && !IN(NAMED|join[h],n) && CLM(h,n) && moves -> \
	printf("h%d puts n%d into the table, erased\n",h,n); moves--; SESSION(n); CLAIM(n); age[n]=0; intent[n]=0; BLANK(n); \
	SLOT(n); pS[h]=ATT; pT[h]=TAB|B(n); pend[h]=0; pdone[h]=0; MARK(pS[h]); c_code { gc(); } }
#if R==2
#define BLANK(n) v[(n)*R]=0; d[(n)*R]=0; v[(n)*R+1]=0; d[(n)*R+1]=0; stale[(n)*R]=0; stale[(n)*R+1]=0
#else
#define BLANK(n) v[n]=0; d[n]=0; stale[n]=0
#endif
#else
#define MEMBER(n)
#endif

#define CHOOSE(n) (n<N && IN(got[h]&ATT,n) && RCH(h,n) && age[n]!=0 && IN(anc[cur[h]],age[n]))
/* whom an age has named that was given up stays: it has taken everything since */
#define SNEW (NAMED&OWNM&~ANYSTALE)
/* membership.cc, fence(): no age can be formed any more */
#define LEFT (ATT&~mv[h]&~ANYSTALE)
#ifdef T_FENCED		/* a fenced head keeps its reservations */
#define FENCED false
#else
#define FENCED (mv[h] && (!LEFT || !BOUNDOK(LEFT) || (QUORUM && OPEN(0)+OPEN(1)+OPEN(2)+OPEN(3)<MAJ(TAB))))
#ifdef T_ASTRAYVOTE	/* one that went on with another head counts for whether an age can be formed */
#define MAYVOTE(n) true
#else
#ifdef T_DIVERGEDVOTE	/* ... only if it has diverged, and sides are not counted, for they disagree on who votes */
#define MAYVOTE(n) !(ISASTRAY(n) && (COUNTS(n) || IN(anc[age[n]],last[h])))
#else
#define MAYVOTE(n) !ISASTRAY(n)
#endif
#endif
#define OPEN(n) (n<V && IN(TAB,n) && !IN(mv[h],n) && MAYVOTE(n) && !(holder[n]==o+1 && st[o]!=0 && IN(link[o],n)))
#endif
#define EVEN(r) (flushed[r]==hv[X(r)])
#if MEMB
#define DATAOF(h) (tab[cur[h]]&ALLN)
#else
#define DATAOF(h) ALLN
#endif
#if R==2
#define EVENOF(h) (flushed[0]==hv[h*R] && flushed[1]==hv[h*R+1])
#else
#define EVENOF(h) (flushed[0]==hv[h*R])
#endif
/* all is well again: whoever gets there ends the run, whoever can't is a deadlock */
#define GOOD(h) (serv[h] && att[cur[h]]==DATAOF(h) && nextv==K && ws[h]==0 && fs[h]==0 && pS[h]==0 && EVENOF(h))

/* pings: a head that was displaced learns it before its successor serves (takeover / 2) */
#define HELD(n) (n<V && IN(TAB,n) && holder[n]==h+1 && !IN(mv[h],n) && !ISASTRAY(n))
#define SAYS(n) (HELD(n) || !IN(NAMED,n))
#ifdef T_LEASE
#define LEASE true
#else
#define LEASE (QUORUM -> HELD(0)+HELD(1)+HELD(2)+HELD(3)>=MAJ(TAB) : SAYS(0)&&SAYS(1)&&SAYS(2))
#endif
#define BUT(m,n) (m!=(n) && HELD(m))
#define LEASEBUT(n) (BUT(0,n)+BUT(1,n)+BUT(2,n)+BUT(3,n)>=MAJ(TAB))
#define FLUSHEDR(r) flushed[r]=hv[X(r)]
#define LOST(r) (hv[X(r)]<=nextv && (FORCED(r) || hv[X(r)]>=flushed[r]))
#if FORCE
#define FORCED(r) forced
#else
#define FORCED(r) false
#endif
#define UDONEALL(r) UDONE(r)
#define KEEPS1(r) assert(LOST(r)) /* P1 */
#define TRUTH1(r) flushed[r]=(flushed[r]>hv[X(r)] -> hv[X(r)] : flushed[r])
#define ENDCOPY1(r) him[X(r)]=him[X(r)]&(pS[h]|mcop[h])
#define NOTTK1(r) if :: wr[h]==r -> SETSTL(r,ALLN&~TK(r)) :: else fi

#if SINCES && !FORCE
#define CONFIGURED(n) IN(conf,n)
#else
#define CONFIGURED(n) true
#endif
#define SEES (LNK(h,0)+2*LNK(h,1)+4*LNK(h,2)+8*LNK(h,3))
#ifdef T_LOOKAGAIN	/* what was seen before the claim decides */
#define FIRSTLOOK c_code { now.cur[Phead->h] = now.last[Phead->h] = canstart(avail(Phead->h), 0); }
#define SECONDLOOK if :: (got[h]&ATT) && !(SEES&~got[h]) :: else -> cur[h]=0 fi
#else
#define FIRSTLOOK skip
#define SECONDLOOK c_code { now.cur[Phead->h] = now.last[Phead->h] = canstart(now.got[Phead->h], 0); }
#endif
#ifdef T_CLAIMED	/* one that was away while the others were claimed takes part */
#define STILLMINE un[h]=SEES&~got[h]; got[h]=(got[h]|un[h])&OWNM; un[h]=un[h]&got[h]
#else
#ifdef T_CLAIMLOST	/* a reservation is lost between the claim and the second look, and it goes unseen */
#define STILLMINE skip
#else
#define STILLMINE got[h]=got[h]&OWNM
#endif
#endif

proctype head(byte h)
{
	byte gn = 0;
	do
	:: fin -> break
	/* mirrored.cc, assemble(): look, claim, look again (rule 9), then an age with one attached node (rule 6) */
	:: d_step { c_expr { CANSTART } -> st[h]=1; FIRSTLOOK }
#if FORCE
	:: d_step { c_expr { CANFORCE } && forced<FORCE -> printf("h%d starts by force\n",h); forced++; st[h]=1; bi[h]=50 }
	:: d_step { st[h]==1 && bi[h]>=50 && bi[h]<50+V -> if :: CLM(h,bi[h]-50) -> SESSION(bi[h]-50); CLAIM(bi[h]-50); got[h]=got[h]|B(bi[h]-50) :: else fi; bi[h]=bi[h]+1 }
	:: d_step { st[h]==1 && bi[h]==50+V -> got[h]=got[h]&OWNM;
		c_code { now.cur[Phead->h] = now.last[Phead->h] = canstart(now.got[Phead->h], 1); };
		if :: cur[h] -> st[h]=3; bi[h]=99 :: else -> c_code { release(Phead->h); wipe(Phead->h); } fi }
#endif
	:: d_step { st[h]==1 && bi[h]<V -> if :: CLM(h,bi[h]) && CONFIGURED(bi[h]) -> SESSION(bi[h]); CLAIM(bi[h]); got[h]=got[h]|B(bi[h]) :: else fi; bi[h]=bi[h]+1 }
	:: d_step { st[h]==1 && bi[h]==V -> STILLMINE; SECONDLOOK;
		if :: cur[h] -> st[h]=3 :: else -> c_code { release(Phead->h); wipe(Phead->h); } fi }
	/* can't go on assembling, or fenced */
	:: d_step { ((st[h]==2 && !serv[h] && ((pS[h]&~OWNM) || (QUORUM && bi[h]!=99 && POP(OWNM&PTAB)<MAJ(PTAB)))) || (st[h]==3 && !(CHOOSE(0)||CHOOSE(1)||(N==3&&CHOOSE(2))))
		|| (serv[h] && FENCED)) ->
		printf("h%d gives up\n",h); c_code { release(Phead->h); wipe(Phead->h); } }
	/* the client */
	:: d_step { serv[h] && ws[h]==0 && fs[h]==0 && nextv<K -> nextv++; wv[h]=nextv; wr[h]=0; ws[h]=1; wack[h]=0; wsent[h]=0 }
#if R==2
	:: d_step { serv[h] && ws[h]==0 && fs[h]==0 && nextv<K -> nextv++; wv[h]=nextv; wr[h]=1; ws[h]=1; wack[h]=0; wsent[h]=0 }
#endif
	:: d_step { ws[h]==1 && SUB(IREQ,him[X(wr[h])]) -> ws[h]=2; EACH(NOTTK1) }
	:: d_step { ws[h]==2 && SUB(ACKERS(wr[h]),wack[h]) && LEASE -> printf("h%d acknowledges %d\n",h,wv[h]); assert(OWNER); /* P3 */ SAY;
		WROTE; hv[X(wr[h])]=wv[h]; ws[h]=0; wv[h]=0; wack[h]=0; wsent[h]=0; wr[h]=0 }
	:: d_step { serv[h] && ws[h]==0 && fs[h]==0 && !BOTH(EVEN) -> fs[h]=1; fdone[h]=0 }
	:: d_step { fs[h]==1 && SUB(FTK,fdone[h]) -> fs[h]=2; fdone[h]=0; EACH(FLUSHED1) }
	:: d_step { fs[h]==2 && BOTH(UDONEALL) && LEASE -> printf("h%d flushed\n",h); assert(OWNER); SAY; EACH(FLUSHEDR); fs[h]=0 }
	/* a silent or lost node leaves by a new age (rule 3) */
	:: d_step { serv[h] && (((NAMED|pS[h])&~OWNM) || ANYSTL(pS[h])) && SNEW && SNEW!=pS[h] && BOUNDOK(SNEW) ->
		if :: SNEW==ATT && SUB(sa[h],ATT) -> pS[h]=0 :: else -> pS[h]=SNEW fi;
		printf("h%d detaches, att %d\n",h,pS[h]); SAMETABLE; pend[h]=0; pdone[h]=0; MARK(SNEW) }
	LASTGOES
	/* in force (rule 4) */
	:: d_step { pend[h]!=0 && SUB(pS[h],pdone[h]) && VOTES && !BADSTL && (serv[h] || (!(pS[h]&mv[h]) && (!QUORUM || LEASE))) -> printf("h%d age in force, att %d\n",h,pS[h]);
		cur[h]=pend[h]; pend[h]=0; CONFIGURE; bound[h]=B(pS[h]); sa[h]=pS[h]; join[h]=join[h]&~pS[h]; mcop[h]=mcop[h]&~(pS[h]|ANYSTALE);
		EACH(ENDCOPY1); pS[h]=0; pdone[h]=0; c_code { gc(); };
		if :: !serv[h] -> serv[h]=1; owner=h+1; printf("h%d serves %d\n",h,hv[X(0)]); EACH(KEEPS1); EACH(TRUTH1) :: else fi }
	VOTE(0) VOTE(1)
#if V>2
	VOTE(2)
#endif
#if V>3
	VOTE(3)
#endif
	NODE(0) NODE(1)
#if N==3
	NODE(2)
#endif
#if WIT
	:: d_step { serv[h] && (!OWN(h,N) || ISASTRAY(N)) && CLM(h,N) && JUDGED(N) -> SESSION(N); CLAIM(N); NOTASTRAY(N); rs[h]=rs[h]&~B(N) }
	REFUSED(N,true)
#endif
	od
}

#ifdef FEW	/* of the faults only lost answers and crashes of heads: to get deeper */
#define MANY false
#else
#define MANY true
#endif
#define CUT(n) \
:: d_step { faults && MANY && IN(up,n) -> printf("n%d loses power\n",n); faults--; up=up&~B(n); DROPPED(n); \
	if :: n<N && st[0]==2 && holder[n]==1 -> rs[0]=rs[0]|B(n) :: else fi; if :: n<N && st[1]==2 && holder[n]==2 -> rs[1]=rs[1]|B(n) :: else fi } \
:: d_step { !fin && !IN(up,n) -> up=up|B(n); printf("n%d is up\n",n) } \
LINK(0,n) LINK2(n)
/* the new session of who has it waits for what the old ones carried */
#define LINK(h,n) \
:: d_step { faults && MANY && IN(link[h],n) -> printf("link h%d-n%d down\n",h,n); faults--; link[h]=link[h]&~B(n) } \
:: d_step { !fin && !IN(link[h],n) -> printf("link h%d-n%d up\n",h,n); if :: holder[n]==h+1 -> SESSION(n) :: else fi; link[h]=link[h]|B(n) }
#if NH==2
#define LINK2(n) LINK(1,n)
#else
#define LINK2(n)
#endif
#define CRASH(h) :: d_step { faults && st[h]!=0 -> printf("h%d crashes\n",h); faults--; c_code { wipe(h); } }
#if GHOST	/* a paused exporter wakes, or the connection had broken before */
#define WAKES(n) :: d_step { gv[n] -> printf("n%d writes %d, which came late\n",n,gv[n]); v[(n)*R+gr[n]]=gv[n]; gv[n]=0; gr[n]=0 } \
:: d_step { gv[n] -> printf("n%d: what was late is lost\n",n); gv[n]=0; gr[n]=0 } \
WAKESMETA(n)
#if GHOSTMETA
#define WAKESMETA(n) :: d_step { gk[n] -> printf("n%d: metadata of kind %d, %d, came late\n",n,gk[n],gx[n]); LANDS(n); NOGHOSTMETA(n); c_code { gc(); } } \
:: d_step { gk[n] -> printf("n%d: late metadata is lost\n",n); NOGHOSTMETA(n); c_code { gc(); } }
#else
#define WAKESMETA(n)
#endif
#else
#define WAKES(n)
#endif
#if DAMAGE
#define ROTS(n) :: d_step { faults && SPARE(n) -> printf("n%d: bits of all regions are damaged\n",n); faults--; dmg[n]=ALLR }
#define SPARE(n) true
#else
#define ROTS(n)
#endif
#if FORCE	/* a person says that what went another way than the head that serves, or than another node, is given up */
#define APART(n,m) (n!=m && age[n]!=0 && age[m]!=0 && !IN(anc[age[n]],age[m]) && !IN(anc[age[m]],age[n]))
#define RESOLVE(n) :: d_step { forced && st[0]==0 && (APART(n,0)||APART(n,1)||(N==3&&APART(n,N-1))) -> printf("n%d is erased\n",n); ERASE(n) } \
:: d_step { forced && serv[0] && age[n]!=0 && !IN(anc[last[0]],age[n]) && !IN(join[0],n) -> printf("n%d is erased\n",n); ERASE(n) }
#define ERASE(n) age[n]=0; intent[n]=0; c_code { gc(); }
#else
#if SINCES	/* a person knows which side the votes changed on last, if that keeps them from being counted */
#define LATER(n,m) (n!=m && age[n]!=0 && age[m]!=0 && !IN(anc[age[m]],age[n]) && since[age[m]]>since[age[n]])
#define RESOLVE(n) :: d_step { st[0]==0 && st[1]==0 && (LATER(n,0)||LATER(n,1)||(N==3&&LATER(n,N-1))) -> printf("n%d is erased\n",n); age[n]=0; intent[n]=0; c_code { gc(); } }
#else
#define RESOLVE(n)
#endif
#endif
#define OTHERS(n) WAKES(n) ROTS(n) RESOLVE(n)

proctype world()
{
	do
	:: fin -> break
	:: !fin && (GOOD(0) || (NH==2 && GOOD(1))) -> fin=true
	CUT(0) CUT(1) OTHERS(0) OTHERS(1)
#if V>2
	CUT(2)
#if N==2
#if GHOST
	WAKES(2)
#endif
	RESOLVE(2)
#endif
#endif
#if N==3
	OTHERS(2)
#endif
#if V>3
	CUT(3)
#endif
	CRASH(0)
#if NH==2
	CRASH(1)
#endif
	od
}

init {
	d_step {
		att[1]=ALLN; anc[1]=2; link[0]=ALLV; age[0]=1; age[1]=1;
#if MEMB
		tab[1]=ALLV;
#endif
#if V>2
		age[2]=1;
#endif
#if V>3
		age[3]=1;
#endif
#if NH==2
		link[1]=ALLV;
#endif
#if SLEPT		/* head 0 serves, all are its, and its links to all but node 0 are broken */
		st[0]=2; serv[0]=1; owner=1; cur[0]=1; last[0]=1; bound[0]=B(ALLN); sa[0]=ALLN; link[0]=1; sdone[0]=ALLN;
		holder[0]=1; holder[1]=1;
#if V>2
		holder[2]=1;
#endif
#endif
#if UNWR
		unw[0]=ALLR; unw[1]=ALLR; v[0]=99; d[0]=99; v[1]=99; d[1]=99;
#if R==2
		v[2]=99; d[2]=99; v[3]=99; d[3]=99;
#endif
#if N==3
		unw[2]=ALLR; v[2*R]=99; d[2*R]=99; v[3*R-1]=99; d[3*R-1]=99;
#endif
#endif
	}
	atomic {
		run world(); run head(0);
#if NH==2
		run head(1)
#endif
	}
}
